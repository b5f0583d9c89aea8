"""Teach: photographs become a draft, which is looked at, then a job of ``evoken learn``."""

from collections import defaultdict
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.annotations import is_mask, mask_beside
from evoken.decoding import decode, decode_mask
from evoken.errors import EvokenError, ImageError, SettingError
from evoken.images import square
from evoken.models.embedded import EMBEDDED
from evoken.spec import FITTING, ModelSpec
from evoken.textual_inversion.settings import LearnSettings
from evoken.web.forms import Question, for_people, options_of, questions, text_of
from evoken.web.job import DRAFT, WAITING, Job
from evoken.web.site import Site, render, site_of
from evoken.web.uploads import caption_of, keep_caption, keep_pictures, posted

# Asked for by fields of their own, or files of this machine, which the page does not read.
OWN = ("placeholder", "kind", "start")
NOT_ASKED = ("name", "config")
PHOTOS, UNUSED = "photos", "unused files"
CAPTION = "caption of "  # and the name of a picture: a field of the form
SHOWN = 160  # px
EXAMPLES = {"otter": "an otter", "blueprint": "blueprints, a style"}
_PACKAGED = Path(__file__).parent.parent / "examples"
EXAMPLE_FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "examples"


def teach(request: Request) -> Response:
    """The form, empty or as it was filled in for a draft."""
    site = site_of(request)
    draft = _draft(site, request.query_params.get("draft", ""))
    return _form(request, site, dict(draft.values or {}) if draft else {}, draft)


def _form(
    request: Request,
    site: Site,
    values: dict[str, str],
    draft: Job | None = None,
    said: str = "",
) -> Response:
    asked = _questions(values)
    return render(
        request,
        "teach.html",
        400 if said else 200,
        title="Teach",
        values=defaultdict(str, values),
        models=site.model_names(),
        draft=draft,
        drafts=[] if draft else [job for job in site.queue.jobs() if job.state == DRAFT],
        photos=_photos(site, draft) if draft else [],
        panels=asked,
        said=said,
        examples=EXAMPLES,
    )


def _questions(values: dict[str, str]) -> dict[str, list[Question]]:
    found = questions(LearnSettings, OWN, values=values)
    for panel, more in questions(ModelSpec, NOT_ASKED, FITTING, values).items():
        found.setdefault(panel, []).extend(more)
    return found


async def begin(request: Request) -> Response:
    """Make a draft of what was dropped and filled in."""
    site, form = site_of(request), await posted(request)
    values = form.answers
    try:
        draft = await run_in_threadpool(_begin, site, form.files("photos"), values)
    except EvokenError as error:
        old = _draft(site, values.get("draft", ""))
        return _form(request, site, values, old, for_people(error))
    return RedirectResponse(f"/teach/{draft.id}", 303)


def _begin(site: Site, files: list[tuple[str, bytes]], values: dict[str, str]) -> Job:
    name = text_of(values, "word").strip("<>").strip()
    if not name:
        raise SettingError("the word has no name yet.", "Give it one, such as otter.")
    model = site.model(text_of(values, "hub") or text_of(values, "model") or "stickers")
    options = [f"--word=<{name}>"]
    if kind := text_of(values, "kind"):
        options.append(f"--kind={kind}")
    if start := text_of(values, "start"):
        options.append(f"--start={start}")
        if start not in site.words() and not start.replace(" ", "").isalnum():
            raise SettingError("`start` must be a word, or one that you have learned.")
    options += [f"--model={model}"] if model != "stickers" else []
    options += [f"--clip={site.clip(clip)}"] if (clip := text_of(values, "clip")) else []
    options += options_of(LearnSettings, values, OWN) + options_of(ModelSpec, values, NOT_ASKED)
    old = _draft(site, values.get("draft", ""))
    folder = site.queue.folder(old) if old and not files else site.queue.new_folder()
    unused = (old.values or {}).get(UNUSED, []) if old else []
    if files:
        (folder / PHOTOS).mkdir()
        with site.removed_if_refused(folder):
            unused = keep_pictures(files, folder / PHOTOS, "Choose three to five.")
        if old:
            _remove(site, old)
    elif not old:
        folder.rmdir()
        raise ImageError("there are no photographs yet.", "Choose three to five.")
    site.forget(folder)
    photos = (folder / PHOTOS).relative_to(site.runs).as_posix()
    run = site.new_name(name, old)
    job = Job(
        folder.name,
        f"Teach <{name}>",
        ("learn", photos, *options, f"--output={run}"),
        run,
        DRAFT,
        {**values, UNUSED: unused},
    )
    site.queue.keep(job)
    return job


def example(request: Request) -> Response:
    """A draft of pictures that come with this program."""
    site, name = site_of(request), request.path_params["name"]
    if name not in EXAMPLES:
        raise SettingError("there is no such example.", "Choose one of the page.")
    files = [(p.name, p.read_bytes()) for p in sorted((EXAMPLE_FOLDER / name).glob("*.*"))]
    kind = "style" if name == "blueprint" else "object"
    draft = _begin(site, files, {"word": name, "kind": kind, "model": "stickers"})
    return RedirectResponse(f"/teach/{draft.id}", 303)


def _draft(site: Site, name: str) -> Job | None:
    job = site.queue.job(name)
    return job if job and job.state == DRAFT else None


def look(request: Request) -> Response:
    """A draft: the pictures as they will be used, what there is to know, and how long it takes."""
    site = site_of(request)
    draft = _draft(site, request.path_params["id"])
    if not draft:
        job = site.queue.job(request.path_params["id"])
        return RedirectResponse(f"/words/{job.run}" if job else "/", 303)
    return render(request, "draft.html", title=draft.title, **_checked(site, draft))


def check(request: Request) -> Response:
    """The part of that page that comes when the command has looked."""
    site, name = site_of(request), request.path_params["id"]
    draft = _draft(site, name)
    if not draft:
        # A page that has just begun it may ask once more before it is left: nothing is new there.
        return Response(status_code=304 if site.queue.job(name) else 404)
    return render(request, "parts/checked.html", **_checked(site, draft))


def _checked(site: Site, draft: Job) -> dict[str, Any]:
    folder = site.queue.folder(draft)
    site.ask(folder, (*draft.arguments, "--dry-run"))
    answer = site.answer(folder)
    found, said = answer or (None, [])
    return {
        "draft": draft,
        "photos": _photos(site, draft),
        "style": "--kind=style" in draft.arguments,
        "caption_field": CAPTION,
        "unused": (draft.values or {}).get(UNUSED, []),
        "waits": answer is None,
        "forecast": found,
        "notes": said if found else [],
        "error": "" if answer is None or found else (said or ["It cannot be done."])[-1],
        "embedded": any(f"--model={name}" in draft.arguments for name in EMBEDDED)
        or not any(a.startswith("--model=") for a in draft.arguments),
    }


class Photo(NamedTuple):
    """A picture of a draft: its name, whether it has a mask, and its caption."""

    name: str
    masked: bool
    caption: str


def _photos(site: Site, draft: Job) -> list[Photo]:
    files = sorted((site.queue.folder(draft) / PHOTOS).glob("*.png"))
    stems = {p.stem for p in files}
    photos = [p for p in files if not is_mask(p, stems)]
    return [Photo(p.name, mask_beside(p) is not None, caption_of(p)) for p in photos]


def photo(request: Request) -> Response:
    """A picture of a draft as the model will see it: its middle square, darker where a mask says
    that it does not count.
    """
    site = site_of(request)
    draft, name = _draft(site, request.path_params["id"]), request.path_params["name"]
    folder = site.queue.folder(draft) / PHOTOS if draft else None
    if not folder or name not in {p.name for p in folder.iterdir()}:
        return Response(status_code=404)
    file = folder / name
    picture = square(decode(file.read_bytes(), file), SHOWN)
    if mask := mask_beside(file):
        level = square(decode_mask(mask.read_bytes(), mask).convert("RGB"), SHOWN).convert("L")
        dark = picture.point(lambda value: value // 4)
        dark.paste(picture, mask=level)
        picture = dark
    content = BytesIO()
    picture.save(content, "PNG")
    return Response(content.getvalue(), media_type="image/png")


async def caption(request: Request) -> Response:
    """Keep what was written below the pictures, and look again."""
    site, form = site_of(request), await posted(request)
    if draft := _draft(site, request.path_params["id"]):
        _keep_captions(site, draft, form.answers)
    return RedirectResponse(f"/teach/{request.path_params['id']}", 303)


def _keep_captions(site: Site, draft: Job, answers: dict[str, str]) -> None:
    folder = site.queue.folder(draft)
    given = {p.name: text_of(answers, CAPTION + p.name) for p in _photos(site, draft)}
    asked = {name: text for name, text in given.items() if CAPTION + name in answers}
    changed = [keep_caption(folder / PHOTOS / name, text) for name, text in asked.items()]
    if any(changed):
        site.forget(folder)


async def start(request: Request) -> Response:
    """Put a draft into the queue, with what was written below its pictures."""
    site, form = site_of(request), await posted(request)
    draft = _draft(site, request.path_params["id"])
    if draft:
        _keep_captions(site, draft, form.answers)
        site.forget(site.queue.folder(draft))  # what is still measured would only slow it down
        site.queue.keep(replace(draft, state=WAITING))
        return RedirectResponse(f"/words/{draft.run}", 303)
    return RedirectResponse("/", 303)


def discard(request: Request) -> Response:
    """Forget a draft and its pictures."""
    site = site_of(request)
    if draft := _draft(site, request.path_params["id"]):
        _remove(site, draft)
    return RedirectResponse("/", 303)


def _remove(site: Site, draft: Job) -> None:
    site.forget(site.queue.folder(draft))
    site.queue.remove(draft)


ROUTES = [
    Route("/", teach),
    Route("/teach", begin, methods=["POST"]),
    Route("/example/{name}", example, methods=["POST"]),
    Route("/teach/{id}", look),
    Route("/teach/{id}/check", check),
    Route("/teach/{id}/photo/{name}", photo),
    Route("/teach/{id}/captions", caption, methods=["POST"]),
    Route("/teach/{id}/start", start, methods=["POST"]),
    Route("/teach/{id}/discard", discard, methods=["POST"]),
]
