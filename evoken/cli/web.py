"""The command that opens the page."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from evoken.cli.common import AsJson, Out, errors
from evoken.cli.options import takes
from evoken.errors import SettingError, reason_of, shown

SHORTEST = 12  # letters of a token of one's own
TOKEN = "EVOKEN_WEB_TOKEN"  # noqa: S105  # a variable's name


@takes()
def web(
    runs: Annotated[
        Path, typer.Argument(help="The folder that runs are in and are written to.")
    ] = Path("runs"),
    models: Annotated[
        Path | None, typer.Option(help="A folder of models to offer beside the embedded ones.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; elsewhere than here, a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    token: Annotated[
        str,
        typer.Option(
            envvar=TOKEN,
            help="What opens the page; made up where one is needed and none is given.",
            show_default=False,
        ),
    ] = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser; print the address.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open a page to work in: teach, look at words, draw, edit, convert files."""
    out = Out(as_json)
    with errors(lambda: "What ran can be gone on with: evoken web"):
        if token and len(token) < SHORTEST:
            raise SettingError(f"`token` must have at least {SHORTEST} letters.")
        if models and not models.is_dir():
            raise SettingError(f"there is no folder {shown(models)}.", "Check the path.")
        try:
            import uvicorn

            from evoken.web.app import create_app
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "evoken":
                raise
            raise SettingError(
                f"the page needs a package that is missing: {reason_of(error)}.",
                "Type: pip install 'evoken[web]'",
            ) from error
        from evoken.files import check_can_write
        from evoken.web.safety import NAMES, is_loopback
        from evoken.web.server import listening

        here = is_loopback(host)
        check_can_write(runs / "config.json", "Choose another folder for the runs.")
        token = token or ("" if here else secrets.token_urlsafe(24))
        with listening(host, port) as socket:
            runs.mkdir(parents=True, exist_ok=True)
            app = create_app(
                runs.resolve(), models and models.resolve(), (*NAMES, host) if here else (), token
            )
            number = socket.getsockname()[1]
            shown_host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
            bracketed = f"[{shown_host}]" if ":" in shown_host else shown_host
            key = f"?token={quote(token, safe='')}" if token else ""
            address = f"http://{bracketed}:{number}/{key}"
            out.say(f"Open {address}")
            if shown_host != host:
                out.say("From elsewhere, this machine's name or address stands for 127.0.0.1.")
            out.result(address=address)
            if not here:
                out.say("Whoever has this address can use this machine: do not pass it on.")
            out.say("Ctrl-C ends it; what runs is interrupted and can be gone on with.")
            if not no_browser:
                opening = threading.Timer(1.0, webbrowser.open, (address,))
                opening.daemon = True
                opening.start()
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, lifespan="on"
            )
            uvicorn.Server(config).run(sockets=[socket])
