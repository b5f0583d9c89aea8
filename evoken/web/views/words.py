"""Words: a gallery of all runs, and the page of one while it is learned and afterwards."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.errors import RunError, SettingError, shown
from evoken.files import lock_folder
from evoken.flowopt.folder import FlowOptRun
from evoken.run_folder import Summary, is_held
from evoken.summaries import summary
from evoken.textual_inversion.compare import write_comparison
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.report import charts, result_of
from evoken.web.forms import for_people, text_of
from evoken.web.job import RUNNING, WAITING, Job
from evoken.web.jobs import HOME
from evoken.web.safety import place
from evoken.web.site import Site, render, site_of
from evoken.web.uploads import posted
from evoken.web.views.jobs import told
from evoken.web.views.media import PAGE_POLICY, attachment
from evoken.words.convert import NAMES, TOOLS, convert, taken
from evoken.words.files import WORD_FILE, read_embedding

MOST_PREVIEWS = 60
# What a run that has not begun has none of.
PARTS = (
    "summary",
    "inputs",
    "previews",
    "charts",
    "samples",
    "tools_list",
    "picked",
    "usage",
    "report",
)


def gallery(request: Request) -> Response:
    """All runs of the folder, and the words that were merged."""
    return render(request, "words.html", title="Words", **_gallery(site_of(request)))


def gallery_live(request: Request) -> Response:
    """The part of that page that changes."""
    return render(request, "parts/gallery.html", **_gallery(site_of(request)))


def _gallery(site: Site) -> dict[str, Any]:
    cards, listed = [], site.listed()
    for name, found in listed:
        good = isinstance(found, Summary)
        cards.append(
            {
                "name": name,
                "summary": found if good else None,
                "reason": "" if good else found,
                "picture": _cover(site.runs / name) if good else "",
                "page": ("words" if good and found.command == "learn" else "edits"),  # type: ignore[union-attr]
            }
        )
    runs = {name for name, _ in listed}
    coming = [j for j in site.queue.jobs() if j.run and j.run not in runs and j.state != "draft"]
    return {"cards": cards, "coming": coming, "files": site.merged(), "words": site.words(listed)}


def _cover(run: Path) -> str:
    """The picture that stands for a run, as a path in it; "" for none."""
    for pattern in ("samples/00-after.png", "previews/*.png", "iterates/00-*.png", "inputs/00.png"):
        if found := sorted(run.glob(pattern)):
            return found[-1].relative_to(run).as_posix()
    return ""


def word(request: Request) -> Response:
    """A word: how far it is, what it draws, what can be done with it."""
    site, name = site_of(request), request.path_params["run"]
    if name.endswith(".safetensors"):
        return _merged(request, site, name)
    found = _word(site, name)
    if found["run"] is None and found["job"] is None:
        raise RunError(f"there is no word {shown(name, 100)}.", "Choose one of the gallery.")
    if isinstance(found["run"], FlowOptRun):
        return RedirectResponse(quote(f"/edits/{name}"), 303)
    return render(request, "word.html", **found)


def live(request: Request) -> Response:
    """The part of that page that changes."""
    return render(request, "parts/word.html", **_word(site_of(request), request.path_params["run"]))


def _word(site: Site, name: str) -> dict[str, Any]:
    run, job = site.run(name), site.queue.of_run(name)
    about: dict[str, Any] = dict.fromkeys(PARTS, ()) | {
        "name": name,
        "run": run,
        "job": job,
        "told": told(site, job) if job else "",
    }
    about["state"] = state_of_run(site, name, job)
    about["command"] = job.command if job else f"evoken learn --resume {name}"
    if not isinstance(run, LearnRun):
        return about | {"title": job.title.removeprefix("Teach ") if job else name}
    line, records = summary(run.path), run.records()
    scores = run.scores()
    previews = [
        {"generation": g, "file": f"previews/{file.name}", "score": scores.get(g)}
        for g, file in run.previews()
    ][-MOST_PREVIEWS:]
    best = result_of(run.settings, records).generation if records else None
    return about | {
        "title": run.settings.placeholder,
        "summary": line,
        "inputs": [f"inputs/{file.name}" for file in run.inputs],
        "previews": previews,
        "score_name": run.score_name,
        "charts": charts(run) if records else [],
        "best": best,
        "samples": _samples(run),
        "tools_list": _tools(run),
        "picked": [p.stem for p in sorted((run.path / "picked").glob("*.safetensors"))],
        "report": (run.path / "report.html").is_file(),
        "placeholder": run.settings.placeholder,
    }


def state_of_run(site: Site, name: str, job: Job | None) -> str:
    """One word for where a run is: that of its job, or of its folder if it was made elsewhere."""
    if job and job.state in (RUNNING, WAITING):
        return job.state
    path = site.run_path(name)
    if not path.is_dir():
        return job.state if job else ""
    state = summary(path).state
    return job.state if job and job.state == "failed" and state != "finished" else state


def _samples(run: LearnRun) -> list[tuple[str, str, str]]:
    rows = []
    for i, sentence in enumerate(run.settings.shown_prompts):
        pair = [run.sample_path(i, which) for which in ("before", "after")]
        if all(file.is_file() for file in pair):
            before, after = (f"samples/{file.name}" for file in pair)
            rows.append((sentence, before, after))
    return rows


def _tools(run: LearnRun) -> list[dict[str, str]]:
    """The programs that load this word, and what to do there."""
    if not (run.path / WORD_FILE).is_file():
        return []
    return tools_of(run.path)


def tools_of(path: Path) -> list[dict[str, str]]:
    """The programs that load a word, and what to do there."""
    embedding, found = read_embedding(path), []
    for tool in TOOLS:
        if taken(embedding, tool)[1]:
            made = convert(embedding, tool, Path())
            found.append(
                {
                    "tool": tool,
                    "name": NAMES[tool],
                    "file": made.path.name,
                    "usage": made.usage,
                    "caution": for_people(made.caution) if made.caution else "",
                }
            )
    return found


def download(request: Request) -> Response:
    """A word as the file that another program loads."""
    site, name = site_of(request), request.path_params["run"]
    path = site.run_path(name)
    if generation := request.query_params.get("generation"):
        path = place(path, f"picked/{generation}.safetensors")
    made = convert(read_embedding(path), request.path_params["tool"], Path())
    return attachment(made.content, made.path.name)


def _merged(request: Request, site: Site, name: str) -> Response:
    path = site.run_path(name)
    embedding = read_embedding(path)
    return render(
        request,
        "merged.html",
        title=embedding.placeholder,
        name=name,
        about=sorted(embedding.about.items()),
        tools_list=tools_of(path),
    )


async def act(request: Request) -> Response:
    """Stop, keep, go on with, pick out of, or delete a run."""
    site, name = site_of(request), request.path_params["run"]
    answers = (await posted(request)).answers
    action = request.path_params["action"]
    if action not in ACTIONS:
        return Response(status_code=404)
    if not site.run_path(name).exists() and not site.queue.of_run(name):
        raise RunError(f"there is no run {shown(name, 100)}.", "Choose one of the gallery.")
    return RedirectResponse(ACTIONS[action](site, name, answers), 303)


def _stop(site: Site, name: str, answers: dict[str, str]) -> str:
    alive = _alive(site, name)
    if not alive and is_held(site.run_path(name)):
        raise RunError(f"{shown(name, 100)} runs in a terminal.", "Press Ctrl-C there.")
    for job in alive:
        site.queue.stop(job)
    return _page_of(site, name)


def _alive(site: Site, name: str) -> list[Job]:
    """The jobs that work on a run, or wait for it."""
    return [j for j in site.queue.jobs() if j.run == name and j.state in (RUNNING, WAITING)]


def _keep(site: Site, name: str, answers: dict[str, str]) -> str:
    """What is learned so far becomes the word: once the run has stopped, it is finished."""
    _stop(site, name, answers)
    site.queue.add(f"Finish {name}", ("finish", name), name, urgent=True)
    return _page_of(site, name)


def _go_on(site: Site, name: str, answers: dict[str, str]) -> str:
    run, job = site.run(name), site.queue.of_run(name)
    options = [f"--calls={calls}"] if (calls := text_of(answers, "calls")) else []
    if _alive(site, name):
        return _page_of(site, name)
    if run is None and job:  # again, with its uploads
        site.queue.keep(replace(job, state=WAITING))
    elif run:
        verb = run.config["command"]
        site.queue.add(f"Go on with {name}", (verb, "--resume", name, *options), name)
    return _page_of(site, name)


def _pick(site: Site, name: str, answers: dict[str, str]) -> str:
    number = text_of(answers, "number")
    if not number.isdecimal():
        raise SettingError("`number` must be that of a generation.")
    site.queue.add(f"Pick {number} of {name}", ("pick", name, number), name, urgent=True)
    return _page_of(site, name)


def _delete(site: Site, name: str, answers: dict[str, str]) -> str:
    path, jobs = site.run_path(name), [j for j in site.queue.jobs() if j.run == name]
    if _alive(site, name):
        raise RunError(f"{shown(name, 100)} is being worked on.", "Stop it first.")
    if path.is_file() and path.suffix == ".safetensors":
        path.unlink()
    elif path.is_dir():
        if is_held(path) or (lock := lock_folder(path)) is None:
            raise RunError(f"another process works on {shown(name, 100)}.", "Wait for it.")
        os.close(lock)
        shutil.rmtree(path)
    for job in jobs:
        site.queue.remove(job)
    return "/words"


def _page_of(site: Site, name: str) -> str:
    run = site.run(name)
    job = site.queue.of_run(name)
    edits = isinstance(run, FlowOptRun) or (job is not None and job.verb in ("edit", "invert"))
    return quote(f"/{'edits' if edits else 'words'}/{name}")


ACTIONS = {"stop": _stop, "keep": _keep, "go-on": _go_on, "pick": _pick, "delete": _delete}


def compare(request: Request) -> Response:
    """Two or more words side by side."""
    site = site_of(request)
    names = request.query_params.getlist("run")
    if len(names) < 2:
        raise RunError("one word cannot be compared.", "Choose two or more.")
    output = site.runs / HOME / "compare.html"
    write_comparison([site.run_path(name) for name in names], output, force=True)
    headers = {"content-security-policy": PAGE_POLICY}
    return Response(output.read_bytes(), media_type="text/html", headers=headers)


async def merge(request: Request) -> Response:
    """Make one word of several."""
    site, form = site_of(request), await posted(request)
    answers, chosen, parts = form.answers, form.chosen("run"), []
    name = text_of(answers, "name").strip("<>")
    for one in chosen:
        site.word(one)
        weight = text_of(answers, f"weight-{one}") or f"{1 / len(chosen):g}"
        try:
            parts.append(f"{one}:{float(weight):g}")
        except ValueError:
            raise SettingError(f"a weight must be a number (got {shown(weight)}).") from None
    if len(parts) < 2 or not name:
        raise SettingError("a merged word needs two words or more, and a name.", "Choose them.")
    output = f"{site.new_name(name)}.safetensors"
    if (site.runs / output).exists():
        raise SettingError(f"there is a word {shown(name)} already.", "Choose another name.")
    options = (f"--name=<{name}>", f"--output={output}")
    site.queue.add(f"Merge <{name}>", ("merge", *parts, *options), urgent=True)
    return RedirectResponse("/queue", 303)


ROUTES = [
    Route("/words", gallery),
    Route("/live/words", gallery_live),
    Route("/words/{run:path}", word),
    Route("/live/words/{run:path}", live),
    Route("/do/{action}/{run:path}", act, methods=["POST"]),
    Route("/word-file/{tool}/{run:path}", download),
    Route("/compare", compare),
    Route("/merge", merge, methods=["POST"]),
]
