"""Draw: pictures of a prompt, with learned words."""

from collections import defaultdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.decoding import read
from evoken.errors import EvokenError, RunError, SettingError
from evoken.web.forms import for_people, text_of
from evoken.web.job import Job
from evoken.web.safety import place
from evoken.web.site import Site, render, site_of
from evoken.web.uploads import as_seen, posted
from evoken.web.views.jobs import told
from evoken.words.files import read_embedding

PICTURES = "pictures"
NUMBERS = ("count", "seed", "guidance", "steps")
MOST_SHOWN = 12  # drawings


def draw(request: Request) -> Response:
    """The form, and what was drawn last."""
    site = site_of(request)
    chosen = request.query_params.getlist("word")
    return _form(request, site, {"prompt": _prompt(site, chosen)}, chosen)


def _prompt(site: Site, words: list[str]) -> str:
    """A sentence to begin with."""
    if not words:
        return ""
    names = [read_embedding(site.runs / site.word(word)).placeholder for word in words]
    return f"a photo of a {' and a '.join(names)}"


def _form(
    request: Request, site: Site, values: dict[str, str], chosen: list[str], said: str = ""
) -> Response:
    words = []
    for name in site.words():
        try:
            words.append((name, read_embedding(site.runs / name).placeholder))
        except EvokenError:  # a file that is no word
            continue
    drawn = [job for job in site.queue.jobs() if job.verb == "generate"]
    return render(
        request,
        "draw.html",
        400 if said else 200,
        title="Draw",
        values=defaultdict(str, values),
        chosen=chosen,
        words=words,
        models=site.model_names(),
        drawn=[_drawn(site, job) for job in reversed(drawn[-MOST_SHOWN:])],
        said=said,
    )


async def begin(request: Request) -> Response:
    """Put a drawing into the queue."""
    site, form = site_of(request), await posted(request)
    answers, chosen = form.answers, form.chosen("word")
    try:
        job = await run_in_threadpool(_begin, site, answers, chosen)
    except EvokenError as error:
        return _form(request, site, answers, chosen, for_people(error))
    return RedirectResponse(f"/drawn/{job.id}", 303)


def _begin(site: Site, answers: dict[str, str], chosen: list[str]) -> Job:
    prompt = text_of(answers, "prompt")
    if not prompt:
        raise SettingError("there is no `prompt`.", "Say what to draw.")
    options: list[str] = []
    options += [f"--word={site.word(name)}" for name in chosen]
    if negative := text_of(answers, "negative"):
        options.append(f"--negative={negative}")
    options += [f"--{name}={value}" for name in NUMBERS if (value := text_of(answers, name))]
    if model := text_of(answers, "model"):
        options.append(f"--model={site.model(model)}")
    folder = site.queue.new_folder()
    output = (folder / PICTURES).relative_to(site.runs).as_posix()
    arguments = ("generate", *options, f"--output={output}", "--", prompt)
    return site.queue.add(f"Draw {prompt[:60]}", arguments, id=folder.name)


def drawn(request: Request) -> Response:
    """A drawing, while it is made and afterwards."""
    found = _of(request)
    return render(request, "drawn.html", title=found["job"].title, **found)


def live(request: Request) -> Response:
    """The part of that page that changes."""
    return render(request, "parts/drawn.html", **_of(request))


def _of(request: Request) -> dict[str, Any]:
    site = site_of(request)
    job = site.queue.job(request.path_params["id"])
    if not job or job.verb != "generate":
        raise RunError("there is no such drawing.", "Go back and choose again.")
    return _drawn(site, job)


def _drawn(site: Site, job: Job) -> dict[str, Any]:
    files = sorted((site.queue.folder(job) / PICTURES).glob("*-[0-9]*-[0-9][0-9].png"))
    prompt = job.arguments[-1]
    return {
        "job": job,
        "told": told(site, job),
        "prompt": prompt,
        "files": [file.name for file in files],
    }


def picture(request: Request) -> Response:
    """One picture of a drawing."""
    site = site_of(request)
    folder = site.queue.folder(place(site.queue.folder("."), request.path_params["id"]).name)
    file = place(folder / PICTURES, request.path_params["name"])
    if file.suffix != ".png" or not file.is_file():
        return Response(status_code=404)
    return Response(as_seen(read(file), file), media_type="image/png")


ROUTES = [
    Route("/draw", draw),
    Route("/draw", begin, methods=["POST"]),
    Route("/drawn/{id}", drawn),
    Route("/drawn/{id}/live", live),
    Route("/drawn/{id}/{name}", picture),
]
