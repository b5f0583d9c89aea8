"""The commands on the run of a word: learn and evaluate."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import (
    Batch,
    Device,
    Encoders,
    ModelConfig,
    ModelName,
    Precision,
    Ray,
    RuntimeName,
    Seed,
    Size,
    Workers,
    errors,
    evaluators,
    load_clip_if_any,
    new_spec,
    quiet,
    resume_alone,
    start_model,
)
from evoken.errors import SettingError

if TYPE_CHECKING:
    from evoken.evaluation.evaluator import Evaluator
    from evoken.models.clip import Clip
    from evoken.models.families.latent import LatentModel
    from evoken.models.judge import Judge
    from evoken.textual_inversion.folder import LearnRun
    from evoken.textual_inversion.learn import Learner
    from evoken.textual_inversion.recipe import Recipe
    from evoken.textual_inversion.settings import LearnSettings


def learn(
    context: typer.Context,
    images: Annotated[Path | None, typer.Argument(help="A folder of three to five images.")] = None,
    word: Annotated[
        str, typer.Option(help="The placeholder, such as '<teapot>'; by default the folder's name.")
    ] = "",
    model: ModelName = "stickers",
    clip: Annotated[str, typer.Option(help="Its CLIP: 'stickers', a folder, or a hub id.")] = "",
    preset: Annotated[str, typer.Option(help="default or paper.")] = "default",
    output: Annotated[
        Path | None, typer.Option(help="The run folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="A run folder to go on with.")] = None,
    kind: Annotated[str | None, typer.Option(help="object or style.")] = None,
    vectors: Annotated[
        int | None, typer.Option(help="Token embeddings per word; 3 for styles.")
    ] = None,
    initialization: Annotated[
        str | None, typer.Option(help="attention (Eq. 4), nearest, word or random.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="A word or phrase to start from.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of Eq. 4; 0 means CLIP's own.")] = None,
    subspace: Annotated[
        str | None, typer.Option(help="pca, prior (Eq. 5), normal or identity.")
    ] = None,
    axes: Annotated[int | None, typer.Option(help="Dimension d of the subspace.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="denoising (Eq. 1) or similarity (CLIP).")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="gauss-newton, cma, sep-cma, zero-order or random.")
    ] = None,
    popsize: Annotated[int | None, typer.Option(help="Candidates per generation.")] = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Scatter of the first candidates, in spreads of the vocabulary."),
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Random draws per generation.")] = None,
    sentences: Annotated[int | None, typer.Option(help="Sentences among the draws.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Draws that a worker takes at a time.")] = None,
    t_low: Annotated[float | None, typer.Option(help="Lowest noise level, 0 to 1.")] = None,
    t_high: Annotated[float | None, typer.Option(help="Highest noise level, 0 to 1.")] = None,
    weighting: Annotated[
        str | None,
        typer.Option(help="Of draws: relative (to their noise level) or uniform."),
    ] = None,
    validation_draws: Annotated[int | None, typer.Option(help="Fixed draws to choose on.")] = None,
    calls: Annotated[int | None, typer.Option(help="Budget of denoiser calls.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget of time; 0 means none.")] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Generations between previews; 0 means none.")
    ] = None,
    mistake: Annotated[
        list[str] | None, typer.Option(help="A mistake of the paper's code to put back.")
    ] = None,
    seed: Seed = 0,
    precision: Precision = "",
    batch: Batch = 0,
    device: Device = "",
    size: Size = 0,
    encoders: Encoders = "",
    model_config: ModelConfig = "",
    runtime: RuntimeName = "",
    workers: Workers = None,
    ray: Ray = None,
) -> None:
    """Learn a word from three to five images of one thing or one style.

    Options that are not given are the preset's; config.json in the run folder shows them all.
    """
    given = {
        "kind": kind, "vectors": vectors, "temperature": temperature, "subspace": subspace,
        "axes": axes, "objective": objective, "search": search, "popsize": popsize, "sigma": sigma,
        "draws": draws, "sentences": sentences, "t_low": t_low, "t_high": t_high, "calls": calls,
        "weighting": weighting, "chunk": chunk,
        "validation_draws": validation_draws, "minutes": minutes, "preview_every": preview_every,
        "start": start, "initialization": initialization or ("word" if start else None),
        "mistakes": tuple(mistake) if mistake else None,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None} | {"seed": seed}
    spec = {
        "name": model, "precision": precision, "batch": batch, "device": device, "size": size,
        "encoders": encoders, "config": model_config, "runtime": runtime,
    }  # fmt: skip
    folder: list[Path] = []

    def advice() -> str:
        if not folder:
            return "Nothing was begun."
        return f"Go on with: evoken learn --resume {quote(str(folder[0]))}"

    with errors(advice), evaluators(workers, ray) as start_workers:
        if resume is not None:
            resume_alone(context, resume, "workers", "ray")
            run, learner = _reopen(resume, start_workers)
        else:
            source, name = _concept(images)
            path, placeholder = output or Path("runs") / name, word or f"<{name}>"
            run, learner = _create(
                path, source, placeholder, preset, changes, spec, clip, start_workers
            )
        folder.append(run.path)
        _learn(run, learner)


def _concept(images: Path | None) -> tuple[Path, str]:
    """The folder of images, and a name for the concept made of the folder's."""
    if images is None:
        raise SettingError("a folder of images, or --resume with a run folder", "neither",
                           "Type: evoken learn FOLDER")  # fmt: skip
    return images, re.sub(r"[^A-Za-z0-9._-]+", "-", images.resolve().stem).strip("-") or "word"


def _nowhere_else(_: Recipe) -> None:
    """Everything is computed in this process."""


def _reopen(
    path: Path,
    start_workers: Callable[[Recipe], Evaluator | None] = _nowhere_else,
) -> tuple[LearnRun, Learner]:
    """A run folder, and a fresh learner made of its settings and images."""
    quiet()
    from evoken.textual_inversion.folder import LearnRun
    from evoken.textual_inversion.learn import Learner
    from evoken.textual_inversion.recipe import Recipe

    run = LearnRun.open(path)
    model = start_model(run.spec)
    run.check_weights()  # once the model is there: the hub's may have had to be fetched anew
    clip, found = _clip(run.settings, run.clip, model), run.images(model.size)
    evaluator = start_workers(Recipe(run.settings, model.spec, run.clip, found.numpy()))
    return run, Learner(run.settings, model, found, clip, evaluator)


def _create(
    path: Path,
    images: Path,
    placeholder: str,
    preset_name: str,
    changes: dict[str, Any],
    spec_values: dict[str, Any],
    clip: str,
    start_workers: Callable[[Recipe], Evaluator | None],
) -> tuple[LearnRun, Learner]:
    """A new run folder and its learner; nothing is written before everything is checked."""
    quiet()
    from evoken.images import load_images
    from evoken.models.load import default_clip
    from evoken.run_folder import check_new
    from evoken.textual_inversion.folder import LearnRun
    from evoken.textual_inversion.learn import Learner
    from evoken.textual_inversion.recipe import Recipe
    from evoken.textual_inversion.settings import preset

    spec = new_spec(**spec_values)
    settings = preset(preset_name, placeholder=placeholder, **changes)
    check_new(path)
    model = start_model(spec)
    found = load_images(images, model.size)
    if found.ignored:
        typer.echo(f"Passed over {', '.join(found.ignored)}: no image by name.")
    if not 3 <= len(found.names) <= 5:
        typer.echo(f"Note: {len(found.names)} image(s); three to five work best.")
    clip_name = clip or default_clip(spec.name)
    evaluator = start_workers(Recipe(settings, model.spec, clip_name, found.images.numpy()))
    learner = Learner(settings, model, found.images, _clip(settings, clip_name, model), evaluator)
    return LearnRun.create(path, settings, model.spec, clip_name, found), learner


def _clip(settings: LearnSettings, name: str, model: LatentModel) -> Clip | None:
    """The run's CLIP model, which has read the vocabulary where the start needs that."""
    from evoken.cli.terminal import show_reading

    compares = settings.initialization in ("attention", "nearest")
    needed = compares or settings.objective == "similarity"
    clip = load_clip_if_any(name, needed, model.spec.device)
    if clip and compares:
        show_reading(clip, model, settings.kind)
    return clip


def _learn(run: LearnRun, learner: Learner) -> None:
    from evoken.cli.terminal import show
    from evoken.prompts import KINDS
    from evoken.textual_inversion.forecast import forecast
    from evoken.textual_inversion.workflow import learn_into

    records = run.records()
    expected = forecast(learner, records[-1].calls if records else 0)
    with closing(learn_into(run, learner)) as steps:
        show(steps, run.settings, expected)
    word = run.settings.placeholder
    typer.echo(f"Learned {word}. Look at {run.path / 'report.html'}")
    prompt = KINDS[run.settings.kind].plain.format(word)
    typer.echo(f'Use it: evoken generate "{prompt}" --word {quote(str(run.path))}')


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    concept: Annotated[
        str, typer.Option(help="What the sticker judge calls the concept, such as 'teapot'.")
    ] = "",
    count: Annotated[int, typer.Option(help="Pictures per prompt.", min=2)] = 64,
    seed: Seed = 0,
) -> None:
    """Measure a learned word: reconstruction and editability (paper 4.3), with 95 % intervals."""
    with errors():
        quiet()
        from evoken.cli.terminal import show_prompts
        from evoken.textual_inversion.folder import LearnRun
        from evoken.textual_inversion.workflow import evaluate_run, write_scores

        run = LearnRun.open(path)
        run.word()
        judge = _judge_of(run, concept) if concept else None
        run, learner = _reopen(path)
        with show_prompts(run.settings.kind, count) as on_prompt:
            results = evaluate_run(run, learner, judge, concept, count, seed, on_prompt)
        typer.echo(f"{'':16}{'start':>16}{'learned':>16}")
        for name, (start, learned) in results.items():
            typer.echo(f"{name:16}{start!s:>16}{learned!s:>16}")
        write_scores(run, results, count, seed)


def _judge_of(run: LearnRun, concept: str) -> Judge:
    """The judge, if it knows the concept and sees such pictures as the run's model draws."""
    from evoken.models.embedded import EMBEDDED, JUDGED_SIZE
    from evoken.models.load import load_judge

    judge, kind = load_judge(), run.settings.kind
    seen = run.spec.name in EMBEDDED and run.spec.size in (0, JUDGED_SIZE)
    known = judge.names[kind] if seen else ()
    if concept not in known:
        near = " or ".join(map(repr, get_close_matches(concept, known, 3)))
        raise SettingError(f"the name of one {kind}, as the sticker judge knows it", repr(concept),
                           f"It is called {near}." if near else "Leave --concept out.")  # fmt: skip
    return judge
