"""Edit: a picture, what it shows and what it should show; every result as it is made."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.decoding import read
from evoken.errors import EvokenError, ImageError, RunError, SettingError, shown
from evoken.flowopt.edit import check_everywhere
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.given import check_frame
from evoken.flowopt.job import DEFAULT_MODEL
from evoken.flowopt.originals import mask_path
from evoken.flowopt.report import caption_of, charts
from evoken.flowopt.settings import DEFAULTS, FlowOptSettings, flowopt_preset
from evoken.spec import FITTING, ModelSpec
from evoken.summaries import summary
from evoken.web.forms import for_people, options_of, questions, text_of, values_of
from evoken.web.job import Job
from evoken.web.site import Site, render, site_of
from evoken.web.uploads import keep_pictures, posted
from evoken.web.views.jobs import told
from evoken.web.views.media import in_run
from evoken.web.views.teach import EXAMPLE_FOLDER, NOT_ASKED
from evoken.web.views.words import state_of_run
from evoken.words.files import read_embedding

NO_FIELDS = ("encoders", *NOT_ASKED)
STRENGTH = ("strengths", "guidance", "last", "fresh")  # how far an edit goes
WHERE = ("everywhere", "frame")  # what of a picture may change
EXAMPLE = {
    "source": "a photo of a crown in a room",
    "target": "a photo of a crown on the beach",
}
EXAMPLE_PICTURE = "crown.png"
MASK = "mask"  # folder in a job's, and the field of the form


def edit(request: Request) -> Response:
    """The form; with the iterate of another edit, where that is to be gone on from."""
    site, query = site_of(request), request.query_params
    values = {name: query.get(name, "") for name in ("source", "target", "from_run", "from_file")}
    if (job := site.queue.job(query.get("job", ""))) and job.values:  # that is to be changed
        values = {**job.values}
    return _form(request, site, values)


def _form(
    request: Request,
    site: Site,
    values: dict[str, str],
    said: str = "",
    chosen: Sequence[str] = (),
) -> Response:
    panels = questions(FlowOptSettings, (), DEFAULTS["edit"], values)
    for panel, more in questions(ModelSpec, NO_FIELDS, FITTING, values).items():
        panels.setdefault(panel, []).extend(more)
    words = []
    for name in site.words():
        try:
            words.append((name, read_embedding(site.runs / name).placeholder))
        except EvokenError:
            continue
    return render(
        request,
        "edit.html",
        400 if said else 200,
        title="Edit",
        values=defaultdict(str, values),
        strength=[q for asked in panels.values() for q in asked if q.name in STRENGTH],
        where=[q for asked in panels.values() for q in asked if q.name in WHERE],
        panels={
            p: [q for q in asked if q.name not in (*STRENGTH, *WHERE)]
            for p, asked in panels.items()
        },
        example=EXAMPLE,
        words=words,
        chosen=chosen,
        models=[DEFAULT_MODEL, *(m for m in site.model_names() if m != DEFAULT_MODEL)],
        said=said,
    )


async def begin(request: Request) -> Response:
    """Put an edit into the queue."""
    site, form = site_of(request), await posted(request)
    files, masks, answers = form.files("picture"), form.files("mask"), form.answers
    try:
        job = await run_in_threadpool(_begin, site, files, masks, answers, form.chosen("word"))
    except EvokenError as error:
        return _form(request, site, answers, for_people(error), form.chosen("word"))
    return RedirectResponse(f"/edits/{job.run}", 303)


def _begin(
    site: Site,
    files: list[tuple[str, bytes]],
    masks: list[tuple[str, bytes]],
    answers: dict[str, str],
    words: list[str],
) -> Job:
    target = text_of(answers, "target")
    if not target:
        raise SettingError("it is not said what the picture should show.", "Say it in a sentence.")
    if run := text_of(answers, "from_run"):
        file = in_run(site, run, text_of(answers, "from_file"))
        files = files or [(f"{Path(run).name}.png", read(file))]
    if len(files) != 1:
        raise ImageError(f"an edit is of one picture (got {len(files)}).", "Choose one.")
    if len(masks) > 1:
        raise ImageError(f"an edit has one mask at most (got {len(masks)}).", "Choose one.")
    options = [f"--from={text_of(answers, 'source')}", f"--to={target}"]
    options += [f"--word={site.word(word)}" for word in words]
    if model := text_of(answers, "hub") or text_of(answers, "model"):
        options += [f"--model={site.model(model)}"] if model != DEFAULT_MODEL or words else []
    options += [f"--clip={site.clip(clip)}"] if (clip := text_of(answers, "clip")) else []
    options += options_of(FlowOptSettings, answers) + options_of(ModelSpec, answers, NO_FIELDS)
    # What the command would refuse is refused before it has waited for others.
    settings = flowopt_preset("edit", **values_of(FlowOptSettings, answers))
    check_frame(settings.frame, bool(masks))
    if masks:
        check_everywhere(settings)
    folder = site.queue.new_folder()
    with site.removed_if_refused(folder):
        # Whatever they are called: the form has a field for each.
        keep_pictures(files, folder, "Choose one.", masks=False)
        if masks:
            keep_pictures(masks, folder / MASK, "Choose one.", masks=True)
    [picture] = folder.glob("*.png")
    for mask in folder.glob(f"{MASK}/*.png"):
        options.append(f"--mask={mask.relative_to(site.runs).as_posix()}")
    run = site.new_name(f"{picture.stem}-edit")
    path = picture.relative_to(site.runs).as_posix()
    arguments = ("edit", path, *options, f"--output={run}")
    return site.queue.add(f"Edit to {target[:60]}", arguments, run, id=folder.name, values=answers)


def example(request: Request) -> Response:
    """An edit of a picture that comes with this program."""
    content = (EXAMPLE_FOLDER / EXAMPLE_PICTURE).read_bytes()
    job = _begin(site_of(request), [(EXAMPLE_PICTURE, content)], [], dict(EXAMPLE), [])
    return RedirectResponse(f"/edits/{job.run}", 303)


def page(request: Request) -> Response:
    """An edit, while it is made and afterwards."""
    return render(request, "edited.html", **_edit(request))


def live(request: Request) -> Response:
    """The part of that page that changes."""
    return render(request, "parts/edited.html", **_edit(request))


def _edit(request: Request) -> dict[str, Any]:
    site, name = site_of(request), request.path_params["run"]
    run, job = site.run(name), site.queue.of_run(name)
    if run is None and job is None:
        raise RunError(f"there is no edit {shown(name, 100)}.", "Choose one of the gallery.")
    about: dict[str, Any] = {
        "name": name,
        "run": run,
        "job": job,
        "told": told(site, job) if job else "",
        "state": state_of_run(site, name, job),
        "command": job.command if job else f"evoken edit --resume {name}",
        "title": job.title if job else name,
        "pictures": [],
        "summary": None,
        "report": False,
    }
    if not isinstance(run, FlowOptRun):
        return about
    records = run.records()
    suggested = run.suggestions() or []
    for i, entry in enumerate(run.config["pictures"]):
        targets, mask = run.config["targets"], mask_path(run.path, i)
        best = suggested[i] if i < len(suggested) else None
        about["pictures"].append(
            {
                "number": i,
                "name": entry["name"],
                "source": run.config["sources"][i],
                "target": targets[i] if targets else "",
                "given": run.given(i).relative_to(run.path).as_posix(),
                "mask": mask.relative_to(run.path).as_posix() if mask.is_file() else "",
                "iterates": [_iterate(run, i, record, best) for record in records],
                "suggested": best,
                "charts": charts(records, {}, i) if records else [],
            }
        )
    return about | {"summary": summary(run.path), "report": (run.path / "report.html").is_file()}


def _iterate(run: FlowOptRun, i: int, record: dict[str, Any], best: int | None) -> dict[str, Any]:
    number = record["iteration"]
    return {
        "number": number,
        "file": run.picture(i, number).relative_to(run.path).as_posix(),
        "told": caption_of(run, record),
        "rmse": record["rmse"][i],
        "agreement": record["agreement"][i] if record["agreement"] else None,
        "suggested": number == best,
    }


ROUTES = [
    Route("/edit", edit),
    Route("/edit", begin, methods=["POST"]),
    Route("/example-edit", example, methods=["POST"]),
    Route("/edits/{run:path}", page),
    Route("/live/edits/{run:path}", live),
]
