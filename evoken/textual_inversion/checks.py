"""What is checked before anything of a run is written, and what is said of its pictures."""

import re
from dataclasses import replace
from pathlib import PurePath

import torch

from evoken.arrays import Images, PathLike
from evoken.errors import ImageError, SettingError, WordError, one_line, shown
from evoken.images import (
    CHECKED,
    ImageSet,
    counted,
    listing,
    load_images,
    to_pictures,
    to_tensor,
)
from evoken.models.base import Model
from evoken.models.clip import check_name
from evoken.models.families.latent import LatentModel
from evoken.models.memory import available
from evoken.prompts import KINDS
from evoken.search.table import search_of
from evoken.spec import ModelSpec
from evoken.textual_inversion.initialization import read_start
from evoken.textual_inversion.joint import check_other
from evoken.textual_inversion.settings import LearnSettings
from evoken.textual_inversion.subspace import axes_used
from evoken.words.word import check_length


def pictures_of(images: PathLike | ImageSet, size: int, settings: LearnSettings) -> ImageSet:
    """The images as a run folder keeps them, with those masks and captions that the settings make
    use of.

    Raises:
        ImageError: they cannot be used.
    """
    used = settings.uses_masks, settings.uses_captions
    if isinstance(images, ImageSet):
        check_images(images.images)
        count, masks = len(images.images), images.annotations.masks
        if len(images.names) != count or len(images.hashes) != count:
            raise ImageError(
                f"an `ImageSet` needs a name and a hash for each of its {counted(count)}.",
                "Load them with `load_images`.",
            )
        if masks is not None and masks.shape != images.images[:, :1].shape:
            raise ImageError(
                f"masks must be N x 1 x S x S, of {count} x 3 x S x S pictures (got "
                f"{' x '.join(map(str, masks.shape))}).",
                "Load them with `load_images`.",
            )
        kept = torch.cat([to_tensor(picture) for picture in to_pictures(images.images)])
        return replace(
            images,
            images=kept,
            annotations=images.annotations.chosen(*used),
            stray=images.stray if settings.uses_captions else (),
        )
    return load_images(images, size, *used)


def check_images(images: Images, size: int = 0) -> None:
    """Raise ``ImageError`` unless these are square pictures.

    Args:
        size: that they must have in pixels; 0 for any.
    """
    if not isinstance(images, torch.Tensor):
        raise ImageError(
            f"images must be a tensor, N x 3 x S x S (got {type(images).__name__}).",
            "Give what `load_images(...).images` holds.",
        )
    if not images.is_floating_point() or not images.isfinite().all():
        kind = "numbers that are not finite" if images.is_floating_point() else str(images.dtype)
        raise ImageError(
            f"images must be numbers from -1 to 1 (got {kind}).", "Load them with `load_images`."
        )
    shape = tuple(images.shape)
    side = size or shape[-1]
    if len(shape) != 4 or not shape[0] or shape[1:] != (3, side, side):
        raise ImageError(
            f"images must be N x 3 x {size or 'S'} x {size or 'S'} (got "
            f"{' x '.join(map(str, shape))}).",
            f"Load them with `load_images(..., {size or 'SIZE'})`.",
        )


def check_asked(
    images: PathLike | ImageSet,
    settings: LearnSettings,
    model: LatentModel | ModelSpec | str,
    clip: str,
) -> None:
    """Check what can be checked before the model is loaded, which takes long.

    Raises:
        EvokenError: pictures, settings or a name cannot be used.
    """
    if clip:
        check_name(clip)
    if settings.also:
        spec = model.spec if isinstance(model, LatentModel) else model
        check_other(settings.also, spec if isinstance(spec, str) else spec.name)
    if blank := pictures_of(images, CHECKED, settings).blank:
        raise ImageError(
            f"there is one colour and nothing else in {listing(blank, 'and')}.",
            "Use other pictures: nothing can be learned from one colour.",
        )
    read_start(settings)


def check_room(settings: LearnSettings, model: Model, found: ImageSet) -> None:
    """Raise if a sentence that the word is learned or previewed in is too long with its vectors.

    Raises:
        WordError: one of the kind is, because the word has so many vectors, or one to preview.
        ImageError: a caption is.
    """
    kind, placeholder = KINDS[settings.kind], settings.placeholder
    longest = max(kind.templates, key=lambda text: model.count_tokens(text.partition("{}")[0]))
    word = {placeholder: torch.zeros(1, settings.vectors, model.width)}
    try:
        model.condition([longest.format(placeholder)], word)
    except WordError as error:
        raise WordError(
            f"{settings.vectors} `vectors` are too many for the sentences that the word is learned "
            f"in ({one_line(error.problem)}).",
            "Start from a word of fewer vectors."
            if settings.initialization == "file"
            else "Lower `vectors`.",
        ) from None
    check_length(
        model, settings.preview_prompts and settings.shown_prompts, {placeholder: settings.vectors}
    )
    for name, caption in zip(found.names, found.annotations.captions, strict=False):
        if not caption:
            continue
        sentence = kind.template(caption, placeholder).format(placeholder)
        try:
            check_length(model, [sentence], {placeholder: settings.vectors})
            model.condition([sentence], word)
        except WordError as error:
            raise ImageError(
                f"the caption of {shown(name)} is too long ({one_line(error.problem)}).",
                "Shorten it, or learn without captions (`captions`).",
            ) from None


def check_memory(settings: LearnSettings, model: Model) -> None:
    """Raise ``SettingError`` if what a generation is computed from would not fit into memory."""
    if settings.objective != "denoising":
        return
    sentences = [text.format("word") for text in KINDS[settings.kind].templates]
    # The longest, for some models read no more of a prompt than there is.
    hidden, latents = model.condition([max(sentences, key=len)]).numel(), model.noise([0]).numel()
    row = 4 * hidden + 32 * latents  # bytes; some of the latents' copies are in double precision
    alone = "independent-draws" in settings.mistakes
    rows = settings.draws if alone else settings.popsize * min(settings.chunk, settings.draws)
    fixed = settings.validation_draws
    words = model.vocabulary()
    axes = axes_used(settings.subspace, settings.axes, len(words.words), words.parts)
    dimension = settings.vectors * min(axes, model.width)
    searching = search_of(settings.search).load().memory(settings.popsize, dimension)
    needed = {
        ("`popsize` or `chunk`", "candidates and draws"): rows * row,
        ("`draws`", "draws"): 4 * latents * settings.draws,
        ("`validation_draws`", "validation draws"): fixed * row,
        ("`vectors`, `axes` or `search`", "directions"): searching,
        ("`samples`", "pictures of a sentence"): 72 * settings.samples * model.size**2,
    }
    free = available(torch.device("cpu"))
    (names, what), most = max(needed.items(), key=lambda item: item[1])
    if most > free:
        raise SettingError(
            f"so many {what} need about {most / 1e9:,.0f} GB of memory (there are "
            f"{free / 1e9:.0f} GB).",
            f"Change {names}.",
        )


def said_of_annotations(found: ImageSet, settings: LearnSettings) -> list[str]:
    """What people should know of the masks and captions that are used, or could be; settings in
    backticks.
    """
    masks, captions = sum(found.annotations.masked), found.annotations.captions
    said = []
    if masks:
        what = f"{masks} of {counted(len(found.names))}"
        said.append(f"Masks: of {what}, only what the mask shows is learned (see `masks`).")
    if captions:
        what = f"{sum(map(bool, captions))} of {counted(len(found.names))}"
        said.append(f"Captions: {what} are learned in theirs (see `captions`).")
    named = dict.fromkeys(name for text in captions for name in re.findall(r"<[\w.-]+>", text))
    if others := [name for name in named if name != settings.placeholder]:
        said.append(
            f"Note: captions name {listing(others, 'and')}, which is read as letters: the word is "
            f"{shown(settings.placeholder)}."
        )
    told = [bool(text) for text in captions] or [False] * len(found.names)
    if settings.kind == "style" and settings.uses_captions and not all(told):
        first = PurePath(found.names[told.index(False)])
        said.append(
            "Note: a style is learned much better where captions say what the pictures show: "
            f"write a text such as 'a cat' into {shown(first.stem + '.txt')} beside "
            f"{shown(first.name)}, and so on."
        )
    return said
