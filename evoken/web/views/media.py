"""Pictures and pages out of run folders."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evoken.decoding import read
from evoken.errors import RunError, shown
from evoken.flowopt.folder import FlowOptRun
from evoken.pictures.difference import changed
from evoken.run_folder import is_run_folder
from evoken.web.safety import place
from evoken.web.site import Site, site_of
from evoken.web.uploads import as_seen

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
PICTURES = {".png": "image/png"}


def in_run(site: Site, run: str, name: str) -> Path:
    """A file of a run folder; raises ``RunError`` if it is none."""
    folder = site.run_path(run)
    if not is_run_folder(folder):
        raise RunError(f"there is no run {shown(run, 100)}.", "Go back and choose again.")
    path = place(folder, name)
    if not path.is_file():
        raise RunError(f"there is no {shown(name, 100)} in this run.", "Go back and choose again.")
    return path


def picture(request: Request) -> Response:
    """A picture that a run has drawn or was given."""
    file = in_run(site_of(request), request.path_params["run"], request.path_params["name"])
    if file.suffix not in PICTURES:
        return Response(status_code=404)
    content = as_seen(read(file), file)
    save = {"content-disposition": f'attachment; filename="{file.name}"'}
    more = save if "save" in request.query_params else {}
    return Response(content, media_type=PICTURES[file.suffix], headers=more)


def report(request: Request) -> Response:
    """A run's report, in which nothing runs, and what it links to."""
    name = request.path_params["name"]
    file = in_run(site_of(request), request.path_params["run"], name)
    if name == "report.html":
        headers = {"content-security-policy": PAGE_POLICY}
        return Response(read(file), media_type="text/html", headers=headers)
    if file.suffix in PICTURES:
        return Response(as_seen(read(file), file), media_type=PICTURES[file.suffix])
    return attachment(read(file), file.name)


def attachment(content: bytes, name: str) -> Response:
    """A file to save."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{plain}"'},
    )


def difference(request: Request) -> Response:
    """What an iterate of an edit has changed, as a picture of grey levels."""
    from io import BytesIO

    from PIL import Image

    site = site_of(request)
    run = site.run(request.path_params["run"])
    if not isinstance(run, FlowOptRun):
        return Response(status_code=404)
    number, iteration = request.path_params["picture"], request.path_params["iteration"]
    with (
        Image.open(run.given(number)) as before,
        Image.open(run.picture(number, iteration)) as after,
    ):
        content = BytesIO()
        changed(before, after).save(content, "PNG")
    return Response(content.getvalue(), media_type="image/png")


ROUTES = [
    Route("/picture/{run:path}/file/{name:path}", picture),
    Route("/report/{run:path}/page/{name:path}", report),
    Route("/changed/{run:path}/{picture:int}/{iteration:int}.png", difference),
]
