"""The page as a web application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from evoken.bugs import described, issues_page, write_log
from evoken.errors import EvokenError
from evoken.web.forms import for_people
from evoken.web.jobs import Queue
from evoken.web.safety import NAMES, Guard
from evoken.web.site import Site, render
from evoken.web.views import draw, edit, files, jobs, media, teach, words

STATIC = Path(__file__).parent / "static"


def create_app(
    runs: Path, models: Path | None = None, hosts: tuple[str, ...] = NAMES, token: str = ""
) -> Guard:
    """The page over a folder of runs; it holds the folder until it is shut down.

    Args:
        models: a folder whose folders and files are offered as models.
        hosts, token: see ``Guard``.

    Raises:
        RunError: another page works on the folder.
    """
    site = Site(runs, Queue(runs), models)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        site.queue.start()
        yield
        site.close()

    app = Starlette(
        routes=[
            *(r for view in (teach, words, edit, draw, files, jobs, media) for r in view.ROUTES),
            Route("/favicon.ico", lambda request: RedirectResponse("/static/icon.svg")),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={EvokenError: _refused, HTTPException: _missing, Exception: _broken},
        lifespan=lifespan,
    )
    app.state.site = site
    return Guard(app, hosts, token)


def _refused(request: Request, error: Exception) -> Response:
    """What cannot be done, as a page with the library's sentence."""
    said = for_people(error) if isinstance(error, EvokenError) else str(error)
    return render(request, "refused.html", 400, title="That did not work", said=said)


def _broken(request: Request, error: Exception) -> Response:
    """What nobody foresaw: named as a bug, with its log."""
    log = write_log(error)
    said = f"This is a bug of evoken ({described(error)})."
    said += f" Please report it with its log, {log}{issues_page()}." if log else ""
    return render(request, "refused.html", 500, title="A bug", said=said)


def _missing(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    said = "There is nothing at this address." if status == 404 else "This cannot be asked for."
    return render(request, "refused.html", status, title="Not here", said=said)
