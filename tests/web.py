"""The page as a browser has it, for its tests: the server within this process, jobs outside."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from evoken.web.app import create_app

HERE = "http://localhost"
TINY = {
    **{"model": "model", "clip": "clip", "popsize": "5", "draws": "4"},
    **{"validation_draws": "8", "samples": "0"},
}


class Browser:
    """A client that sends what a browser sends with forms of the page itself."""

    def __init__(self, client: TestClient, site: Any) -> None:
        self.client, self.site = client, site

    def get(self, address: str) -> str:
        """A page that is there."""
        response = self.client.get(address)
        assert response.status_code == 200, (address, response.text)
        return str(response.text)

    def post(self, address: str, files: Any = None, **answers: Any) -> Any:
        """A form that is sent; the page that it leads to."""
        return self.client.post(address, data=answers, files=files, headers={"origin": HERE})

    def wait(self, address: str, found: Callable[[str], object], most: float = 120) -> str:
        """A page, when it holds what is looked for."""
        until = time.monotonic() + most
        while not found(text := self.get(address)):
            assert time.monotonic() < until, text
            time.sleep(0.1)
        return text


@contextmanager
def opened(runs: Path, models: Path | None = None, **more: Any) -> Iterator[Browser]:
    """The page over a folder of runs, until the block ends."""
    runs.mkdir(exist_ok=True)
    app = create_app(runs.resolve(), models, **more)
    site: Any = app._app.state.site  # type: ignore[attr-defined]
    with TestClient(app, base_url=HERE, follow_redirects=True) as client:
        yield Browser(client, site)


def photos_of(folder: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """Pictures as a form sends them."""
    return [("photos", (p.name, p.read_bytes())) for p in sorted(folder.iterdir())]


def state_in(text: str) -> str:
    """What the page of a run says of its state."""
    match = re.search(r'class="pill (\w+)"', text)
    return match[1] if match else ""
