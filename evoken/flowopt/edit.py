"""Inverting and editing pictures: generators of finished iterates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from evoken.arrays import Images, Latents
from evoken.errors import SettingError, WordError, shown
from evoken.flowopt.compare import Agreement, last_counted, measures
from evoken.flowopt.inversion import starting_point, with_fresh_noise
from evoken.flowopt.optimize import Evaluated, Step, flow_opt
from evoken.flowopt.rules import RULES
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.flowopt.settings import FlowOptSettings
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.seeds import derive
from evoken.words.word import Word


@dataclass(frozen=True)
class Task:
    """What is to be done with N pictures.

    Attributes:
        images: N x 3 x S x S, S the model's size.
        sources: N prompts, what the pictures show.
        targets: N prompts, what they should show; empty for an inversion.
        word: a learned word that stands in prompts.
    """

    images: Images
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    word: Word | None = None

    def __post_init__(self) -> None:
        for prompts in filter(None, (self.sources, self.targets)):
            if len(prompts) != len(self.images):
                raise SettingError(
                    f"there must be one prompt per picture, {len(self.images)} (got "
                    f"{len(prompts)}).",
                    "Give as many prompts as pictures.",
                )


@dataclass(frozen=True)
class Iterate:
    """One iterate of all pictures, and how it compares; N numbers each.

    Attributes:
        images: N x 3 x S x S, finished pictures.
        rmse: to the source, pixel range 0 to 255.
        psnr: to the source, dB.
        ssim: to the source (Wang et al. 2004), at most 1.
        agreement: CLIP similarity with the target prompt; ``None`` without CLIP or target.
        source_agreement: that of the source itself, to compare with.
    """

    step: Step
    images: Images
    rmse: Tensor
    psnr: Tensor
    ssim: Tensor
    agreement: Tensor | None
    source_agreement: Tensor | None


def invert(
    settings: FlowOptSettings,
    model: Model,
    images: Images,
    prompts: Sequence[str],
    word: Word | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Find the noise that ``model`` makes N pictures from; yields the start and every iterate.

    ``iterate.step.best_latents`` is the noise so far. For the arguments and errors, see ``Task``
    and ``iterates``.
    """
    return iterates(Task(images, tuple(prompts), (), word), model, settings, None, earlier)


def edit(
    settings: FlowOptSettings,
    model: Model,
    images: Images,
    sources: Sequence[str],
    targets: Sequence[str],
    clip: Clip | None = None,
    word: Word | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Walk N pictures from their edits back towards themselves; yields the start and every iterate.

    ``iterate.images`` are finished pictures. For the arguments and errors, see ``Task`` and
    ``iterates``.

    Raises:
        SettingError: no targets.
    """
    if not targets:
        raise SettingError(
            "`targets` must say what each picture should show (got none).",
            "Give one target prompt per picture.",
        )
    return iterates(
        Task(images, tuple(sources), tuple(targets), word), model, settings, clip, earlier
    )


def iterates(
    task: Task,
    model: Model,
    settings: FlowOptSettings,
    clip: Clip | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Invert, or edit if there are targets; yields the start and every iterate.

    Args:
        clip: for the agreement with the target; a placeholder is left out of its text.
        earlier: what f gave at the first iterations of the same run, to go on from.

    Raises:
        SettingError: settings that do not fit the model.
        WordError: a prompt is longer than the text encoder reads.
        SearchError: the start is not finite.

    Source: Ronai et al. 2025; the start is found with the source prompt, the iteration runs with
    the target's.
    """
    sampler = ModelSampler(model, settings.steps, settings.last)
    word = task.word
    placeholder, vectors = (word.placeholder, word.vectors) if word else ("", None)
    check_prompts(model, task)
    source = sampler.condition(task.sources, settings.source_guidance, placeholder, vectors)
    target = sampler.condition(
        task.targets or task.sources, settings.guidance, placeholder, vectors
    )
    latents = model.encode(task.images)
    start = None if earlier else _start(sampler, settings, latents, source)
    agreement = Agreement(clip, task.targets, placeholder) if clip and task.targets else None
    before = agreement(task.images) if agreement else None
    rule = RULES[settings.rule](settings.eta)
    history: list[list[float]] = [[] for _ in latents]
    for step in flow_opt(sampler, latents, start, target, rule, settings.iterations, earlier):
        images = model.decode(step.result)
        now = agreement(images) if agreement else None
        yield Iterate(step, images, *measures(task.images, images), now, before)
        if now is not None:
            history = [[*h, a] for h, a in zip(history, now.tolist(), strict=True)]
            if all(last_counted(h, settings.patience) is not None for h in history):
                return


def _start(
    sampler: ModelSampler, settings: FlowOptSettings, latents: Latents, source: Prompts
) -> Latents:
    """Where the iteration begins, by the settings; every picture has its own seed."""
    seeds = [derive(settings.seed, i, "picture") for i in range(len(latents))]
    start = starting_point(settings.start, sampler, latents, source, seeds, settings.tolerance)
    if settings.fresh:
        process = sampler.model.process
        t = process.t_of(sampler.levels[0])
        start = with_fresh_noise(start, latents, process, t, settings.fresh, seeds)
    return start


def check_prompts(model: Model, task: Task) -> None:
    """Raise ``WordError`` for a prompt that the text encoder would cut off, and for a word that
    stands in none.
    """
    prompts, word, room = (*task.sources, *task.targets), task.word, model.prompt_room
    for prompt in prompts:
        pieces = prompt.split(word.placeholder) if word else [prompt]
        count = sum(model.count_tokens(piece) for piece in pieces)
        count += (len(pieces) - 1) * len(word.vectors) if word else 0
        if count > room:
            raise WordError(
                f"a prompt may have at most {room} tokens (got {count} in {shown(prompt)}).",
                "Shorten it.",
            )
    if word and not any(word.placeholder in prompt for prompt in prompts):
        raise WordError(
            f"no prompt contains the word {shown(word.placeholder)} (got {shown(prompts[-1])}).",
            "Put the word into a prompt.",
        )
