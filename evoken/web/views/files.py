"""Files: what an embedding file is, and the same word for other programs."""

import shutil
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.errors import EvokenError, RunError, WordError
from evoken.web.forms import for_people
from evoken.web.safety import place
from evoken.web.site import ANSWERS, Site, render, site_of
from evoken.web.uploads import posted, safe_name
from evoken.web.views.media import attachment
from evoken.web.views.words import tools_of
from evoken.words.convert import convert
from evoken.words.files import read_embedding
from evoken.words.layouts import LAYOUTS

FILES = "files"
MOST_BYTES = 50 << 20  # of a word's file
MOST_KEPT = 20


def files(request: Request) -> Response:
    """Where a file is dropped."""
    return render(request, "files.html", title="Files", said="")


async def begin(request: Request) -> Response:
    """Keep a file that was dropped, if a word is in it."""
    site = site_of(request)
    form = await posted(request)
    try:
        name = await run_in_threadpool(_begin, site, form.files("file"))
    except EvokenError as error:
        return render(request, "files.html", 400, title="Files", said=for_people(error))
    return RedirectResponse(f"/files/{name}", 303)


def _begin(site: Site, given: list[tuple[str, bytes]]) -> str:
    if len(given) != 1 or len(given[0][1]) > MOST_BYTES:
        raise WordError(f"one file of at most {MOST_BYTES >> 20} MB is taken.", "Choose one.")
    home = site.runs / ".web" / FILES
    home.mkdir(exist_ok=True)
    folder = site.queue.new_folder()
    folder = folder.rename(home / folder.name)
    name = safe_name(given[0][0])
    (folder / name).write_bytes(given[0][1])
    with site.removed_if_refused(folder):
        read_embedding(folder / name)
    for old in sorted(home.iterdir())[:-MOST_KEPT]:
        site.forget(old)
        shutil.rmtree(old)
    return folder.name


def file(request: Request) -> Response:
    """What a file is."""
    path = _kept(request)
    embedding = read_embedding(path)
    return render(
        request,
        "file.html",
        title=embedding.placeholder,
        id=request.path_params["id"],
        name=path.name,
        layout=LAYOUTS[embedding.layout],
        base=embedding.serves,
        vectors=[
            (name, len(v), v.shape[1], v.norm(dim=1).tolist())
            for name, v in embedding.vectors.items()
        ],
        about=sorted(embedding.about.items()),
        tools_list=tools_of(path),
        **_nearest(site_of(request), path),
    )


def nearest(request: Request) -> Response:
    """The part of that page that comes when the words nearest to it are found."""
    found = _nearest(site_of(request), _kept(request))
    return render(request, "parts/nearest.html", id=request.path_params["id"], **found)


def _nearest(site: Site, path: Path) -> dict[str, Any]:
    site.ask(path.parent, ("inspect", path.relative_to(site.runs).as_posix()))
    answer = site.answer(path.parent)
    found = (answer[0] or {}).get("nearest") if answer else None
    return {"waits": answer is None, "nearest": found}


def _kept(request: Request) -> Path:
    site = site_of(request)
    folder = place(site.runs / ".web" / FILES, request.path_params["id"])
    kept = list(folder.iterdir()) if folder.is_dir() else []
    mine = [p for p in kept if p.name not in ANSWERS]
    if len(mine) != 1:
        raise RunError("this file is not here any more.", "Drop it again.")
    return mine[0]


def download(request: Request) -> Response:
    """The word as the file that another program loads."""
    made = convert(read_embedding(_kept(request)), request.path_params["tool"], Path())
    return attachment(made.content, made.path.name)


ROUTES = [
    Route("/files", files),
    Route("/files", begin, methods=["POST"]),
    Route("/files/{id}", file),
    Route("/files/{id}/nearest", nearest),
    Route("/files/{id}/{tool}", download),
]
