"""Inverting and editing pictures: generators of finished iterates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from evoken.arrays import Images, Latents, Vectors
from evoken.dialects import warn_of
from evoken.errors import SettingError
from evoken.flowopt.compare import Agreement, last_counted, measures
from evoken.flowopt.inversion import starting_point, with_fresh_noise
from evoken.flowopt.optimize import Evaluated, Step, flow_opt
from evoken.flowopt.rules import RULES
from evoken.flowopt.sampler import ModelSampler, Prompts
from evoken.flowopt.settings import FlowOptSettings
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.seeds import derive
from evoken.words.word import Word, as_words, check_length, words_for


@dataclass(frozen=True)
class Task:
    """N pictures and their prompts.

    Attributes:
        images: N x 3 x S x S, S the model's size.
        sources: N prompts, what the pictures show.
        targets: N prompts, what they should show; empty for an inversion.
        word: a learned word in the prompts.
    """

    images: Images
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()

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
    word: Word | Sequence[Word] | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Find the noise that ``model`` makes N pictures from; yields the start and every iterate.

    ``iterate.step.best_latents`` is the noise so far. For the arguments and errors, see ``Task``
    and ``iterates``.
    """
    words = as_words(word)
    warn_of(prompts, words)
    return iterates(Task(images, tuple(prompts), (), words), model, settings, None, earlier)


def edit(
    settings: FlowOptSettings,
    model: Model,
    images: Images,
    sources: Sequence[str],
    targets: Sequence[str],
    clip: Clip | None = None,
    word: Word | Sequence[Word] | None = None,
    earlier: Sequence[Evaluated] = (),
) -> Iterator[Iterate]:
    """Edit N pictures, from the strongest edit back towards the source; yields the start and every
    iterate.

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
    words = as_words(word)
    warn_of((*sources, *targets), words)
    task = Task(images, tuple(sources), tuple(targets), words)
    return iterates(task, model, settings, clip, earlier)


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
        earlier: results of the first iterations, to continue an interrupted run.

    Raises:
        SettingError: settings that do not fit the model.
        WordError: a prompt is longer than the text encoder reads.
        SearchError: the start is not finite.

    Source: Ronai et al. 2025; the start is found with the source prompt, the iteration runs with
    the target's.
    """
    sampler = ModelSampler(model, settings.steps, settings.last)
    words = check_prompts(model, task)
    # An inversion undoes the very process that it iterates.
    guidance = settings.source_guidance if task.targets else settings.guidance
    source = sampler.condition(task.sources, guidance, words)
    target = sampler.condition(task.targets or task.sources, settings.guidance, words)
    latents = model.encode(task.images)
    start = None if earlier else _start(sampler, settings, latents, source)
    agreement = Agreement(clip, task.targets, words) if clip and task.targets else None
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


def check_prompts(model: Model, task: Task) -> dict[str, Vectors]:
    """What is put where words are in the prompts, see ``words_for``.

    Raises:
        WordError: the text encoder would cut a prompt off, or a word is of no use.
    """
    prompts = (*task.sources, *task.targets)
    words = words_for(model, task.words, *prompts)
    check_length(model, prompts, {name: vectors.shape[1] for name, vectors in words.items()})
    return words
