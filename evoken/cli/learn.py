"""The commands on the run of a word: learn and evaluate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import (
    AsJson,
    ClipName,
    Count,
    Out,
    Output,
    Resume,
    Seed,
    errors,
    resume_alone,
)
from evoken.cli.options import From, flags, takes
from evoken.cli.terminal import with_flags
from evoken.errors import SettingError, one_line, shown
from evoken.options import BUDGET, make
from evoken.spec import FITTING, ModelSpec, fitting
from evoken.textual_inversion.settings import LearnSettings, changed

if TYPE_CHECKING:
    from evoken.models.judge import Judge
    from evoken.textual_inversion.folder import LearnRun
    from evoken.textual_inversion.job import LearnJob, Workers

NOT_FINITE = "not finite"  # what is printed of a loss, or a gain, that is none


@takes(settings=From(LearnSettings, changed=changed), spec=From(ModelSpec, defaults=FITTING))
def learn(
    context: typer.Context,
    settings: dict[str, Any],
    spec: dict[str, Any],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A folder of three to five images; several folders are learned one after the "
            "other."
        ),
    ] = None,
    output: Output = None,
    resume: Resume = None,
    clip: ClipName = "",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the work; with --ray, actors. Changes no result.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on Ray: local, auto or HOST:PORT of a cluster.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, say how long it will take, and end."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn a word from three to five images of one object or one style.

    Options that are not given are the preset's; config.json in the run folder has them all. With
    --resume, --calls, --minutes and --patience give the whole run another budget, also one that has
    ended. Of several folders, each has that budget, --output is the folder of the runs, and the
    same command again goes on.
    """
    started: list[LearnJob] = []
    out = Out(as_json)

    def advice() -> str:
        if images and len(images) > 1:
            return "Continue with the same command."
        if not started:
            return "Nothing was started."
        return f"Continue with: evoken learn --resume {quote(str(started[0].run.path))}"

    with errors(advice):
        from evoken.textual_inversion.budget import BUDGETS
        from evoken.textual_inversion.job import Workers, begun, foreseen, reopened
        from evoken.textual_inversion.queue import concept_of

        at_work = Workers(workers, ray)
        if dry_run:
            if resume is not None or not images or len(images) > 1:
                raise SettingError(
                    "`dry_run` is for one folder of images.", "Type: evoken learn FOLDER --dry-run"
                )
            chosen = _settings(images[0], settings)
            folder = output or Path("runs") / concept_of(images[0])
            found = foreseen(folder, images[0], chosen, fitting(**spec), clip, at_work, out.display)
            out.say(f"Learning {chosen.placeholder!r} would take {found}.")
            return out.result(placeholder=chosen.placeholder, **asdict(found))
        if images and len(images) > 1 and resume is None:
            return _learn_all(images, output, settings, fitting(**spec), clip, at_work, out)
        if resume is not None:
            resume_alone(context, resume, "workers", "ray", *BUDGETS)
            job = reopened(resume, at_work, out.display, settings)
        elif not images:
            raise SettingError(
                "learn needs a folder of images, or `resume` with a run folder.",
                "Type: evoken learn FOLDER",
            )
        else:
            chosen = _settings(images[0], settings)
            folder = output or Path("runs") / concept_of(images[0])
            job = begun(folder, images[0], chosen, fitting(**spec), clip, at_work, out.display)
        with job as its:
            started.append(its)
            its.finish(out.display)
        out.result(**_told(its.run, out))
    return None


def _settings(images: Path, given: Mapping[str, Any]) -> LearnSettings:
    """Settings with a placeholder: by default the folder's name."""
    from evoken.textual_inversion.queue import concept_of

    return make(LearnSettings, {"placeholder": f"<{concept_of(images)}>"} | dict(given))


def _learn_all(
    images: Sequence[Path],
    output: Path | None,
    settings: Mapping[str, Any],
    spec: ModelSpec,
    clip: str,
    workers: Workers,
    out: Out,
) -> None:
    """Learn a word from each of several folders."""
    from evoken.textual_inversion.queue import check_all_learned, outcomes, queue

    if "placeholder" in settings:
        raise SettingError(
            "`placeholder` can be given for one folder only.",
            "Leave it out: of several folders, the names become the words.",
        )

    def settings_of(placeholder: str) -> LearnSettings:
        return make(LearnSettings, {"placeholder": placeholder} | dict(settings))

    queued = queue(images, output or Path("runs"), settings_of, spec, clip)
    done, results = [], []
    for one in outcomes(queued, spec, clip, workers, out.display):
        done.append(one)
        if one.run:
            results.append(_told(one.run, out))
        else:
            about = {"run": one.queued.folder, "placeholder": one.queued.settings.placeholder}
            results.append(about | {"error": with_flags(str(one.error), flags())})
    for one, result in zip(done, results, strict=True):
        loss = f"loss {result['validation_loss']:.4f}" if one.run else "not learned"
        out.say(f"{result['placeholder']:20} {loss:12}  {result['run']}")
    out.result(runs=results)
    check_all_learned(done)


def _told(run: LearnRun, out: Out) -> dict[str, Any]:
    """Say what was learned, and how it is used; the same as values."""
    from evoken.prompts import KINDS
    from evoken.textual_inversion.steps import would_be_shorter
    from evoken.words.word import WORD_FILE

    word = run.settings.placeholder
    prompt = KINDS[run.settings.kind].plain.format(word)
    out.say(f"Learned {word}. Look at {run.path / 'report.html'}")
    result = run.result()
    can_be_shorter = would_be_shorter(run.settings, run.records()[0].sigma)
    out.say(said_of_loss(result, can_be_shorter))
    out.say(f'Use it: evoken generate "{prompt}" --word {quote(str(run.path))}')
    about = {"run": run.path, "word": run.path / WORD_FILE, "placeholder": word}
    return about | {"report": run.path / "report.html"} | result


def said_of_loss(result: Mapping[str, Any], can_be_shorter: bool) -> str:
    """What the word is better than, by its loss.

    Args:
        can_be_shorter: whether a fidelity makes the steps shorter.
    """
    said = f"Its validation loss is {result['validation_loss']:.4f}: "
    gain, advice = result["gain_over_no_word"], ""
    change = result["gain_over_start"]
    if change > 0:
        said += f"{change:.4f} below that of the start"
    else:  # above it only where the word is not the best that was found
        said += f"{-change:.4f} above " if change else ""
        said += "that of the start" + ("" if change else ", as nothing better was found")
        advice = " Shorter steps (--fidelity 2), another" if can_be_shorter else " Another"
        advice += " --seed or more calls may help."
    if gain is None:
        return f"{said}.{advice}"
    if gain <= 0:
        return f"{said}, but no better than with no word at all.{advice or ' More calls may help.'}"
    return f"{said}, and {gain:.4f} below that of no word at all.{advice}"


@takes()
def finish(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of learn.")],
    as_json: AsJson = False,
) -> None:
    """End an interrupted run where it is: its best word so far, and a report."""
    out = Out(as_json)
    with errors(lambda: f"Go on with: evoken finish {quote(str(path))}"):
        from evoken.textual_inversion.budget import to_learn_on
        from evoken.textual_inversion.folder import LearnRun
        from evoken.textual_inversion.job import check_begun, reopened

        check_begun(LearnRun.open(path))
        with reopened(path, display=out.display) as job:
            job.finish(out.display, more=False)
        result = _told(job.run, out)
        out.say(f"To learn on after all: {to_learn_on(path, job.learner)}")
        out.result(**result)


@takes()
def evaluate(
    path: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a word that was picked in it.")
    ],
    concept: Annotated[
        str, typer.Option(help="What the sticker judge calls the concept, such as 'teapot'.")
    ] = "",
    scorer: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A DINOv2, DINOv3, SigLIP, CLIP or ViT model for the concept score. \\[default: "
            "the run's CLIP]",
            show_default=False,
        ),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough", help="Also draw the word beside another thing, and in another colour."
        ),
    ] = False,
    count: Count = 16,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a learned word: its loss beside that at the start and of no word, and what its
    pictures show of the concept and of their sentences, with 95 % intervals.

    It says first how many calls of the model it takes. docs/scores.md explains each score.
    """
    out = Out(as_json)
    with errors():
        from evoken.files import check_can_write
        from evoken.models.load import load_scorer
        from evoken.pictures.scoring import check_count, label, sentences
        from evoken.textual_inversion.evaluation import WORDS, cost, evaluate_run, write_scores
        from evoken.textual_inversion.folder import LearnRun
        from evoken.textual_inversion.job import reopened
        from evoken.textual_inversion.report import write_report
        from evoken.words.word import load_word

        check_count(count)
        run = LearnRun.of_word(path) or LearnRun.open(path)
        word = load_word(path)
        check_can_write(run.scores_path)
        judge, looks = _judge_of(run, concept), load_scorer(scorer) if scorer else None
        by = one_line(Path(os.path.abspath(scorer)).name) if scorer else ""
        prompts = WORDS * len(sentences(run.settings.kind, thorough))
        display, done = out.display, iter(range(prompts))
        with reopened(run.path, display=display, replays=False) as job:
            pictures, calls = cost(job.learner, count, thorough)
            last = run.records()[-1]
            minutes = calls * last.seconds / max(last.calls, 1) / 60
            display.say(
                f"Scoring takes {calls:,} calls, for {pictures:,} pictures and three losses: about "
                f"{minutes:.1f} min."
            )
            with display.bar("", prompts) as bar:
                results = evaluate_run(
                    run,
                    job.learner,
                    word,
                    judge,
                    concept,
                    count,
                    seed,
                    lambda prompt: bar.update(f"{count} of {prompt!r}", next(done)),
                    looks,
                    thorough,
                )
        out.say(f"{'':28}{'no word':>8}{'start':>22}{'learned':>22}")
        nothing, start, learned = (
            NOT_FINITE if loss is None else f"{loss:.4f}" for loss in results.losses.values()
        )
        out.say(f"{'validation loss':26}{nothing:>10}{start:>22}{learned:>22}")
        for name, gain in results.gains.items():
            said = NOT_FINITE if gain is None else gain.text(4)
            out.say(f"{f'gain {name}':28}{'':30}{said:>22}")
        for name, pair in results.scores.items():
            out.say(f"{label(name, by):36}{pair[0]!s:>22}{pair[1]!s:>22}")
        if not run.ended_with(word):
            out.say("The run keeps no scores of a word that was picked.")
        else:
            write_scores(run, results, count, seed, by)
            if run.report_path.exists():
                write_report(run)
                out.say(f"The report has them, too: {run.report_path}")
        out.result(
            run=run.path,
            word=path,
            count=count,
            seed=seed,
            scorer=by or None,
            **results.to_dict(),
            **{
                name: {
                    at: asdict(score) for at, score in zip(("start", "learned"), pair, strict=True)
                }
                for name, pair in results.scores.items()
            },
        )


def _judge_of(run: LearnRun, concept: str) -> Judge | None:
    """The judge, if it knows the concept and sees such pictures as the run's model draws; None
    where it does not, and no concept is asked for.
    """
    from evoken.models.embedded import EMBEDDED, JUDGED_SIZE
    from evoken.models.load import load_judge

    judge, kind = load_judge(), run.settings.kind
    seen = run.spec.name in EMBEDDED and run.spec.size in (0, JUDGED_SIZE)
    if not concept:
        return judge if seen else None
    if not seen:
        raise SettingError(
            f"the sticker judge cannot look for {shown(concept)}: it only sees pictures of "
            f"{' and '.join(EMBEDDED)} at {JUDGED_SIZE} pixels.",
            "Leave out `concept`.",
        )
    known = judge.names[kind]
    if concept not in known:
        near = " or ".join(map(repr, get_close_matches(concept, known, 3)))
        raise SettingError(
            f"the sticker judge knows no {kind} called {shown(concept)}.",
            f"Use {near}." if near else "Leave out `concept`.",
        )
    return judge
