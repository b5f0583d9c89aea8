"""Damaged and made-up inputs: a command reads one, and gives what it says or tells why not."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.campaign import judge, pictures
from benchmarks.campaign.given import DRAW, FEW, PROMPT, SHORT, TURN, Given
from benchmarks.campaign.mutate import Random, copy, damage, pick
from benchmarks.campaign.options import wrong_options
from benchmarks.campaign.process import Command, Ended, left_over
from evoken.seeds import numpy_generator

MOST_SECONDS, MOST_MEGABYTES = 20.0, 2000.0
MOST_LETTERS = 600  # of an error
LONG = 6.0  # seconds, after which a command with a large budget is interrupted


@dataclass(frozen=True)
class Case:
    """An input and the command that reads it.

    Attributes:
        what: what is wrong with it.
        silent: says what of the result is not what the input says, "" if all is; it is asked in a
            process of its own, if the command has succeeded.
        long: whether the input may ask for hours of work; it is interrupted then.
    """

    arguments: list[str]
    what: str
    silent: Callable[..., str]
    about: tuple[str, ...] = ()
    long: bool = False


def image(given: Given, random: Random, here: Path) -> Case:
    """Pictures of one's own."""
    photos = copy(given.folder / "photos", here / "photos")
    file = photos / "0.png"
    if random.random() < 0.6:
        file.unlink()
        file, made = pictures.make(photos, random)
    else:
        made = file.name
    others = sorted(given.folder.glob("words/*")) + sorted(given.folder.glob("photos/*"))
    whole = made != file.name and random.random() < 0.3
    what = f"{made}: {'whole' if whole else damage(file, others, random)}"
    if random.random() < 0.6:
        arguments = ["learn", "photos", *given.model, *SHORT, "--output", "run"]
    else:
        model = ["--model", str(given.folder / "flow"), "--prompt", PROMPT]
        arguments = ["invert", f"photos/{file.name}", *model, *FEW, "--output", "run"]
    return Case(arguments, what, judge.pictures, (f"photos/{file.name}", "run"))


def word(given: Given, random: Random, here: Path) -> Case:
    """Files of words of several programs."""
    others = sorted((given.folder / "words").iterdir())
    source = pick(random, others)
    name = source.name
    if random.random() < 0.1:  # a name that says something else
        name = pick(random, ("cat.safetensors", "cat.pt", "cat.png", "c" * 240 + ".bin", "cat"))
    file = copy(source, here / name)
    what = f"{source.name}: {damage(file, others, random)}"
    command = ["convert", name, "--to", pick(random, ("comfyui", "a1111", "diffusers"))]
    if random.random() < 0.3:
        return Case(["inspect", name], what, judge.nothing)
    return Case([*command, "--output", "made"], what, judge.word, (name, "made"))


def options_file(given: Given, random: Random, here: Path) -> Case:
    """YAML and JSON with options, or with pictures and prompts."""
    copy(given.folder / "edits", here / "edits")
    name = pick(random, ("options.yaml", "options.json", "edits.yaml", "edits.json"))
    file = here / "edits" / name
    what = f"{name}: {damage(file, sorted(file.parent.glob('*')), random)}"
    if name.startswith("options"):
        more = ["--config", f"edits/{name}", *given.model, "--output", "run"]
        arguments = ["learn", "edits", *more]
        return Case(arguments, what, judge.options, (f"edits/{name}", "run"), long=True)
    more = ["--model", str(given.folder / "flow"), "--clip", str(given.folder / "clip"), *FEW]
    arguments = ["edit", f"edits/{name}", *more, "--output", "run"]
    return Case(arguments, what, judge.edits, (f"edits/{name}", "run"))


def run_folder(given: Given, random: Random, here: Path) -> Case:
    """Run folders, in which files are damaged, then gone on with."""
    command = pick(random, ("learn", "edit"))
    run = copy(given.whole(command), here / "run")
    if random.random() < 0.8:  # as an interrupted run leaves it
        lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
        kept = lines[: int(random.integers(1, len(lines)))]
        (run / "records.jsonl").write_text("".join(kept))
        for made in ("result.json", "report.html", "learned_embeds.safetensors"):
            (run / made).unlink(missing_ok=True)
    files = sorted(p for p in run.rglob("*") if p.is_file())
    likely = [p for p in files if p.suffix in (".json", ".jsonl", ".safetensors")]
    file = pick(random, likely if random.random() < 0.7 else files)
    what = f"{command} {file.relative_to(run)}: {damage(file, files, random)}"
    whole = str(given.whole(command))
    return Case([command, "--resume", "run"], what, judge.run, (whole, "run"), long=True)


def model_folder(given: Given, random: Random, here: Path) -> Case:
    """Folders of models: a picture is drawn."""
    model = copy(given.folder / "model", here / "model")
    files = sorted(p for p in model.rglob("*") if p.is_file())
    configs = [p for p in files if p.suffix in (".json", ".txt")]
    file = pick(random, configs if random.random() < 0.8 else files)
    name = str(file.relative_to(model))
    what = f"{name}: {damage(file, files, random)}"
    about = (str(given.folder), name)
    return Case(["generate", PROMPT, "--model", "model", *DRAW], what, judge.drawn, about)


def clip_folder(given: Given, random: Random, here: Path) -> Case:
    """Folders of CLIP: a word is learned from where CLIP says."""
    clip = copy(given.folder / "clip", here / "clip")
    files = sorted(p for p in clip.rglob("*") if p.is_file())
    file = pick(random, files)
    name = str(file.relative_to(clip))
    what = f"{name}: {damage(file, files, random)}"
    photos, model = str(given.folder / "photos"), str(given.folder / "model")
    arguments = ["learn", photos, "--model", model, "--clip", "clip", *SHORT, "--output", "run"]
    return Case(arguments, what, judge.started, (str(given.folder), name))


def options(given: Given, random: Random, here: Path) -> Case:
    """Options with values that make no sense, of any command."""
    copy(given.folder / "photos", here / "photos")
    copy(given.whole("learn"), here / "run")
    copy(given.whole("edit"), here / "edit")
    flow = ["--model", str(given.folder / "flow")]
    bases = {
        "learn": ["photos", *given.model, *SHORT],
        "generate": [PROMPT, *given.model[:2], *DRAW],
        "edit": ["photos/0.png", *TURN, *flow, "--clip", given.model[3], *FEW],
        "invert": ["photos/0.png", "--prompt", PROMPT, *flow, *FEW],
        "evaluate": ["run", "--count", "2"],
        "retrieve": ["run", "photos", "--count", "2"],
        "merge": ["run:0.5", "run:0.5", "--output", "both.safetensors"],
        "inspect": ["run"],
        "pick": ["edit"],
        "runs": ["."],
        "finish": ["run"],
    }
    command = pick(random, ("learn", "learn", "edit", *bases))
    wrong = wrong_options(command, random, here)
    return Case([command, *bases[command], *wrong], " ".join(wrong)[:200], judge.nothing, long=True)


KINDS: dict[str, Callable[[Given, Random, Path], Case]] = {
    "image": image,
    "word": word,
    "options-file": options_file,
    "run": run_folder,
    "model": model_folder,
    "clip": clip_folder,
    "options": options,
}


def run_input(given: Given, seed: int, number: int, kind: str, case: Path) -> dict[str, Any]:
    """Make the input, give it to its command, and look at what came; returns what was found."""
    here = case / "here"
    here.mkdir(parents=True)
    made = KINDS[kind](given, numpy_generator(seed, number, kind), here)
    process = Command(made.arguments, case)
    interrupted = made.long and not process.wait(LONG)
    if interrupted:
        process.send(signal.SIGINT)
    ended = process.end(MOST_SECONDS * 2)
    left = left_over()
    found = problems(ended, interrupted)
    if left:
        found["left"] = ", ".join(left)
    if ended.code == 0 and not interrupted and (said := judge.ask(made.silent, here, made.about)):
        found["silent"] = said
    row: dict[str, Any] = {"code": ended.code}
    if found:
        row |= {"arguments": [a[:100] for a in made.arguments], "what": made.what, "found": found}
    return row | {"seconds": ended.seconds, "megabytes": ended.megabytes}


def problems(ended: Ended, interrupted: bool) -> dict[str, str]:
    """What is wrong with how a command ended, by the name of the figure that counts it."""
    found = {}
    said = ended.said.strip()
    good = (0, 130) if interrupted else (0,)
    refused = ended.code == 2 and said.startswith("error: ") and "\n" not in said
    if ended.seconds > MOST_SECONDS:
        found["over_time"] = f"{ended.seconds:.0f} s"
    if ended.megabytes > MOST_MEGABYTES:
        found["over_memory"] = f"{ended.megabytes:.0f} MB"
    killed = ended.code == -signal.SIGKILL and found  # by us, for that
    fine = ended.code in good or (refused and len(said) < MOST_LETTERS)
    if "Traceback" in said or not (fine or killed):
        found["tracebacks"] = f"exit code {ended.code}: {said[-600:]}"
    return found
