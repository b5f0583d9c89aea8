"""Inverting and editing pictures: generators of finished iterates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.arrays import Images, Latents, Masks, Vectors
from evoken.dialects import warn_of
from evoken.errors import SettingError
from evoken.flowopt.compare import last_counted, measures
from evoken.flowopt.inversion import Inverted, inverted, noise_in, renewed
from evoken.flowopt.mask import Masked, check_masks, found_mask, of_latents, of_pictures
from evoken.flowopt.optimize import Evaluated, Step, flow_opt
from evoken.flowopt.rules import RULES
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.flowopt.settings import FlowOptSettings, check_inversion
from evoken.flowopt.strength import Noise, Variant
from evoken.flowopt.suggestion import Scorer, Scores
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.pictures.frame import feathered, mixed, newness
from evoken.seeds import derive
from evoken.words.word import Word, as_words, check_length, words_for


@dataclass(frozen=True)
class Task:
    """N pictures and their prompts.

    Attributes:
        images: N x 3 x S x S, S the model's size.
        sources: N prompts, what the pictures show.
        targets: N prompts, what they should show; empty for an inversion.
        words: learned words in the prompts.
        seen: N x 1 x S x S, 0 where an image is drawn out beyond its picture; None for nowhere.
    """

    images: Images
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()
    seen: Masks | None = None

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
        number: in the order in which they are drawn, from 0.
        variant: the strength and the seed that it began with.
        step: its numbers; ``step.iteration`` is that of the update, 0 before any.
        drawn: N x 3 x S x S, finished pictures as the model made them.
        images: the same put into the source, which stays as it is outside the mask.
        rebuilt: the sources after the autoencoder alone.
        rmse: of the images to the source, pixel range 0 to 255; this and the others are of the part
            of a picture that the model sees, and without what it is drawn out with.
        psnr: to the source, dB.
        ssim: to the source (Wang et al. 2004), at most 1.
        scores: how they agree with the prompts; ``None`` without CLIP or target.
        source_agreement: that of the source itself with the target, to compare with.
    """

    number: int
    variant: Variant
    step: Step
    drawn: Images
    images: Images
    rebuilt: Images
    rmse: Tensor
    psnr: Tensor
    ssim: Tensor
    scores: Scores | None
    source_agreement: Tensor | None

    @property
    def agreement(self) -> Tensor | None:
        """CLIP similarity with the target prompt."""
        return self.scores.agreement if self.scores else None


def invert(
    settings: FlowOptSettings,
    model: Model,
    images: Images,
    prompts: Sequence[str],
    word: Word | Sequence[Word] | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Find the noise that ``model`` makes N pictures from; yields the start and every iterate.

    ``iterate.step.best_latents`` is the noise so far. For the arguments and errors, see ``Task``
    and ``Editor``.
    """
    check_inversion(settings)
    words = as_words(word)
    warn_of(prompts, words)
    return Editor(Task(images, tuple(prompts), (), words), model, settings).iterates(earlier)


def edit(
    settings: FlowOptSettings,
    model: Model,
    images: Images,
    sources: Sequence[str],
    targets: Sequence[str],
    clip: Clip | None = None,
    word: Word | Sequence[Word] | None = None,
    earlier: Sequence[Evaluated] = (),
    masks: Masks | None = None,
) -> Iterator[Iterate]:
    """Edit N pictures; yields a strip of results, and of each the iterates from there back towards
    the source.

    ``iterate.images`` are finished pictures. For the arguments and errors, see ``Task`` and
    ``Editor``.

    Args:
        masks: N x 1 x H x W of any size, floats from 0 to 1, 0 where a picture may not change; by
            default the model finds them, unless the settings say ``everywhere``.

    Raises:
        SettingError: no targets, masks that are none, or masks although ``everywhere``.
    """
    if not targets:
        raise SettingError(
            "`targets` must say what each picture should show (got none).",
            "Give one target prompt per picture.",
        )
    words = as_words(word)
    warn_of((*sources, *targets), words)
    task = Task(images, tuple(sources), tuple(targets), words)
    return Editor(task, model, settings, clip, masks).iterates(earlier)


@dataclass
class Editor:
    """Inverts, or edits if there are targets: one inversion and one mask of each picture, from
    which everything is drawn.

    Attributes:
        clip: for the agreement with the target; a placeholder is left out of its text.
        masks: N x 1 x H x W in [0, 1], where pictures may change; None until they are found, and
            where everything may.
        way: the pictures' way up the process; None until they are inverted.

    Raises:
        SettingError: settings that do not fit the model, or masks that do not fit the pictures or
            the settings.
        WordError: a prompt is longer than the text encoder reads.
        SearchError: the start is not finite.

    Source: Ronai et al. 2025; the start is found with the source prompt, everything else runs with
    the target's. Differs: the mask; several strengths and seeds from one inversion.
    """

    task: Task
    model: Model
    settings: FlowOptSettings
    clip: Clip | None = None
    masks: Masks | None = None
    way: Inverted | None = None
    calls: int = field(default=0, init=False)
    _renewed: dict[Noise, Inverted] = field(default_factory=dict, init=False)
    _counted: set[Noise] = field(default_factory=set, init=False)  # by an earlier process

    def __post_init__(self) -> None:
        settings = self.settings
        if self.masks is not None:
            check_masks(self.masks, len(self.task.images))
            check_everywhere(settings, "masks")
            shape = self.task.images.shape[-2:]
            self.masks = F.interpolate(self.masks.float(), shape, mode="area")
        self._sampler = ModelSampler(self.model, settings.steps, settings.deepest)
        self._words = check_prompts(self.model, self.task)
        self._data = self.model.encode(self.task.images)

    @cached_property
    def rebuilt(self) -> Images:
        """The pictures after the autoencoder alone."""
        return self.model.decode(self._data)

    def inverted(self) -> Inverted:
        """The pictures' way up the process; equal pictures with equal prompts go up once."""
        if self.way is not None:
            return self.way
        settings = self.settings
        first, places = self._once(apart=settings.start == "noise")
        # An inversion undoes the very process that it iterates.
        guidance = settings.source_guidance if self.task.targets else settings.guidance
        sources = replace(self._prompts[0], guidance=guidance)
        found = inverted(
            settings.start,
            self._sampler,
            self._data[first],
            self._sampler.rows(sources, first),
            [self._seed(settings.seed, int(i)) for i in first],
            settings.tolerance,
        )
        self.calls = max(self.calls, self._sampler.calls)
        self.way = found.rows(places)
        return self.way

    def _once(self, apart: bool = False) -> tuple[Tensor, Tensor]:
        """The first of every group of equal pictures with equal prompts, and for each picture its
        group; each is one if they are to be kept apart.
        """
        task, groups = self.task, dict[tuple[bytes, str, int], int]()
        places, first = list[int](), list[int]()
        for i, (image, source) in enumerate(zip(task.images, task.sources, strict=True)):
            key = (image.numpy().tobytes(), source, i if apart else 0)
            if key not in groups:
                first.append(i)
            places.append(groups.setdefault(key, len(groups)))
        return torch.tensor(first), torch.tensor(places)

    def follow(self, path: Latents) -> None:
        """Take a way that an earlier process went up, (n + 1) x N x C x h x w."""
        self.way = Inverted(self._sampler.levels, path, self._sampler.start_scale)

    def find_masks(self) -> Masks:
        """Where the pictures are to change, as the model sees it."""
        way, task = self.inverted(), self.task
        skipped = self.settings.steps - (len(way.levels) - 1)
        seen = None if task.seen is None else of_latents(task.seen, self._data)
        found = found_mask(self._sampler, way, *self._prompts, skipped, seen)
        self.calls = max(self.calls, self._sampler.calls)
        self.masks = of_pictures(found, task.images.shape[-1], task.seen)
        return self.masks

    def spread(self) -> Tensor:
        """N: the standard deviation of the noise that the pictures were followed up to; 1 is what a
        model begins with.
        """
        process, way = self.model.process, self.inverted()
        noise = noise_in(way.start, self._data, process, process.t_of(way.levels[0]))
        return noise.double().flatten(1).std(1)

    def iterates(self, earlier: Sequence[Evaluated] = ()) -> Iterator[Iterate]:
        """Draw: first the strip, then the updates of each picture of it.

        Args:
            earlier: results of the first iterates, to continue an interrupted run.
        """
        if self.task.targets and not self.settings.everywhere and self.masks is None:
            self.find_masks()
        strip = list[Iterate]()
        for variant in self.settings.variants:
            [step] = self._steps(variant, 0, earlier[len(strip) : len(strip) + 1])
            strip.append(self._finished(len(strip), variant, step))
            yield strip[-1]
        number, updates = len(strip), self.settings.iterations
        for begun in strip if updates else ():
            begins = Evaluated(begun.step.latents, begun.step.result, self.calls)
            known = [begins, *earlier[number : number + updates]]
            found = self._steps(begun.variant, updates, known)
            for iterate in self._updates(begun, found, number):
                yield iterate
                number += 1

    def _updates(self, begun: Iterate, steps: Iterator[Step], number: int) -> Iterator[Iterate]:
        """The iterates after a picture of the strip, until no picture gets better."""
        agreements, iterate = list[Tensor](), begun
        for step in steps:
            if step.iteration:
                iterate = self._finished(number + step.iteration - 1, begun.variant, step)
                yield iterate
            if iterate.agreement is not None:
                agreements.append(iterate.agreement)
                rows = torch.stack(agreements).mT.tolist()
                if all(last_counted(row, self.settings.patience) is not None for row in rows):
                    return

    def _steps(self, variant: Variant, updates: int, known: Sequence[Evaluated]) -> Iterator[Step]:
        """The start of one variant, and updates of it."""
        settings = self.settings
        sampler = ModelSampler(self.model, settings.steps, variant.strength.last)
        f: ModelSampler | Masked = sampler
        start: Latents | None = None
        if known and variant.noise:
            self._counted.add(variant.noise)
        left = len(known) <= updates
        if left and (not known or variant.noise or self.masks is not None):
            way = self._followed(variant).last(len(sampler.levels) - 1, sampler.start_scale)
            start = None if known else way.start
            if variant.noise or self.masks is not None:
                f = Masked(sampler, way, self._masks_of_latents())
        f.calls = self.calls
        target = replace(self._prompts[1], guidance=variant.strength.guidance)
        rule = RULES[settings.rule](settings.eta)
        for step in flow_opt(f, self._data, start, target, rule, updates, known):
            self.calls = step.calls
            yield step

    def _masks_of_latents(self) -> Masks | None:
        if self.masks is None:
            return None
        return of_latents(self.masks, self._data, self.task.seen)

    def _followed(self, variant: Variant) -> Inverted:
        """The way that a variant goes beside. Fresh noise is drawn once for all strengths with as
        much of it, and is the same for all pictures: one gets what it would get alone.
        """
        way = self.inverted()
        if (noise := variant.noise) is None:
            return way
        if noise not in self._renewed:
            self._sampler.calls = self.calls
            first, places = self._once()
            sources = replace(self._prompts[0], guidance=self.settings.source_guidance)
            found = renewed(
                way.last(self.settings.deepest_of(noise)).rows(first),
                self._sampler,
                self._data[first],
                self._sampler.rows(sources, first),
                self.model.process,
                noise.share,
                [self._seed(noise.seed, 0)] * len(first),
            )
            self._renewed[noise] = found.rows(places)
            if noise not in self._counted:
                self.calls = self._sampler.calls
        return self._renewed[noise]

    def _seed(self, seed: int, picture: int) -> int:
        return derive(seed, picture, "picture")

    @cached_property
    def _prompts(self) -> tuple[Prompts, Prompts]:
        """Sources and targets, without guidance; of an inversion the sources twice."""
        task = self.task
        source = self._sampler.condition(task.sources, 1.0, self._words)
        if not task.targets:
            return source, source
        return source, self._sampler.condition(task.targets, 1.0, self._words)

    def _finished(self, number: int, variant: Variant, step: Step) -> Iterate:
        drawn = self.model.decode(step.result)
        images = drawn
        rebuilt = self.rebuilt
        if self._share is not None:
            images = mixed(self.task.images, drawn, rebuilt, newness(drawn, rebuilt), self._share)
        scores = self._scorer(images) if self._scorer else None
        before = self._scorer.source_agreement if self._scorer else None
        found = measures(self.task.images, images, self.task.seen)
        return Iterate(number, variant, step, drawn, images, rebuilt, *found, scores, before)

    @cached_property
    def _share(self) -> Masks | None:
        """How much of a change is put into the pictures; None where they are replaced."""
        if self.masks is None:
            return None
        seen = self.task.seen
        # What the pictures are drawn out with is no edge to fade towards.
        masks = self.masks if seen is None else torch.where(seen > 0, self.masks, 1.0)
        rows = [torch.from_numpy(feathered(mask[0].numpy())) for mask in masks]
        share = torch.stack(rows)[:, None].float()
        return share if seen is None else share * seen

    @cached_property
    def _scorer(self) -> Scorer | None:
        task = self.task
        if self.clip is None or not task.targets:
            return None
        asked = task.sources, task.targets, self._words
        return Scorer(self.clip, task.images, self.masks, *asked, seen=task.seen)


def check_everywhere(settings: FlowOptSettings, masks: str = "mask") -> None:
    """Raise ``SettingError`` for masks where all of a picture may change.

    Args:
        masks: the name of the argument that they are.
    """
    if settings.everywhere:
        raise SettingError(
            f"`{masks}` says where pictures may change, and `everywhere` that they may everywhere.",
            "Leave out one of them; official presets mean `everywhere`, the preset edit does not.",
        )


def check_prompts(model: Model, task: Task) -> dict[str, Vectors]:
    """What is put where words are in the prompts, see ``words_for``.

    Raises:
        WordError: the text encoder would cut a prompt off, or a word is of no use.
    """
    prompts = (*task.sources, *task.targets)
    words = words_for(model, task.words, *prompts)
    check_length(model, prompts, {name: vectors.shape[1] for name, vectors in words.items()})
    return words
