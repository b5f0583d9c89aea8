"""What every view needs: the folder of the runs, the queue, and how a page is made."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from evoken.errors import EvokenError, RunError, shown
from evoken.models.embedded import EMBEDDED
from evoken.models.provenance import is_hub_id
from evoken.page import templates
from evoken.run_folder import Summary, run_folders
from evoken.summaries import AnyRun, open_run, summary
from evoken.web.forms import for_people
from evoken.web.job import RUNNING, WAITING, Job
from evoken.web.jobs import Queue
from evoken.web.safety import place

ANSWERS = ("answer.json", "said.txt")  # what a command found, and what it said


@dataclass
class Site:
    """A folder of runs and what works on it.

    Attributes:
        models: a folder whose folders and files are offered as models; None for none.
        asides: processes that look something up for a page, by the folder of their answers.
    """

    runs: Path
    queue: Queue
    models: Path | None = None
    asides: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run_path(self, name: str) -> Path:
        """The run folder of this name; raises ``RunError`` if there is none."""
        return place(self.runs, name)

    def run(self, name: str) -> AnyRun | None:
        """The run of this name; None if it has not begun yet."""
        path = self.run_path(name)
        return open_run(path) if path.is_dir() else None

    def listed(self) -> list[tuple[str, Summary | str]]:
        """All runs by name, the newest first; of a damaged one the reason."""
        found: list[tuple[str, Summary | str]] = []
        for path in run_folders(self.runs):
            name = path.relative_to(self.runs).as_posix()
            with suppress(RunError):  # it lies behind a link
                self.run_path(name)
                try:
                    found.append((name, summary(path)))
                except EvokenError as error:
                    found.append((name, for_people(error)))
        return sorted(found, key=lambda one: self._began(one[0]), reverse=True)

    def _began(self, name: str) -> float:
        with suppress(OSError):  # it was deleted in this moment
            return (self.runs / name).stat().st_mtime
        return 0.0

    def words(self, listed: Sequence[tuple[str, Summary | str]] | None = None) -> list[str]:
        """Names of the runs and files that hold a learned word.

        Args:
            listed: the runs, where they are known.
        """
        runs = [
            name
            for name, found in (self.listed() if listed is None else listed)
            if isinstance(found, Summary) and found.command == "learn" and found.done
            if (self.runs / name / "learned_embeds.safetensors").is_file()
        ]
        return runs + self.merged()

    def merged(self) -> list[str]:
        """Names of the files of words that are in no run."""
        found = sorted(self.runs.glob("[!.]*.safetensors"))
        return [p.name for p in found if p.is_file() and not p.is_symlink()]

    def word(self, name: str) -> str:
        """The name of a learned word; raises ``RunError`` if there is none."""
        if name not in self.words():
            raise RunError(f"there is no word {shown(name, 100)}.", "Choose one of the list.")
        return name

    def model_names(self) -> list[str]:
        """What a form offers: the embedded models, and those of the folder."""
        names = list(EMBEDDED)
        if self.models:
            for path in sorted(self.models.iterdir()):
                is_file = path.suffix == ".safetensors" and path.is_file()
                if is_file or (path / "model_index.json").is_file():
                    names.append(path.name)
        return names

    def model(self, name: str) -> str:
        """What a command is told of a model that was chosen.

        Raises:
            RunError: it is neither embedded, nor in the folder of the models, nor a hub id.
        """
        if name in EMBEDDED:
            return name
        if self.models and name in self.model_names():
            return str(self.models / name)
        if is_hub_id(name) and not (self.runs / name).exists():
            return name
        raise RunError(
            f"there is no model {shown(name, 100)} here.",
            "Choose one of the list, type a hub id, or start the page with a folder of `models`.",
        )

    def clip(self, name: str) -> str:
        """The same for a CLIP model."""
        if self.models and name and name in {p.name for p in self.models.iterdir() if p.is_dir()}:
            return str(self.models / name)
        return self.model(name)

    def new_name(self, wish: str, draft: Job | None = None) -> str:
        """A name for a run folder that nothing has yet but this draft."""
        plain = "".join(c if c.isalnum() else "-" for c in wish.lower()).strip("-")[:60] or "run"
        taken = {job.run for job in self.queue.jobs() if not draft or job.id != draft.id}
        name, number = plain, 1
        while name in taken or os.path.lexists(self.runs / name):
            number += 1
            name = f"{plain}-{number}"
        return name

    def ask(self, folder: Path, arguments: Sequence[str]) -> None:
        """Let a command that prints JSON look something up; see ``answer``."""
        if folder not in self.asides:
            answer, said = (folder / name for name in ANSWERS)
            with answer.open("wb") as out, said.open("wb") as err:
                self.asides[folder] = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "evoken", *arguments, "--json"],
                    cwd=self.runs,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )

    def answer(self, folder: Path) -> tuple[dict[str, Any] | None, list[str]] | None:
        """What a command has found, None where it failed, and what it said; None while it looks."""
        process = self.asides.get(folder)
        if process and process.poll() is None:
            return None
        answer, log = (folder / name for name in ANSWERS)
        said = log.read_text(encoding="utf-8").splitlines()
        found = None
        with suppress(OSError, ValueError):
            found = json.loads(answer.read_text(encoding="utf-8"))
        return found, [for_people(line) for line in said if line.strip()]

    def forget(self, folder: Path) -> None:
        """End what looks something up for a page, and forget what it found."""
        if process := self.asides.pop(folder, None):
            process.kill()
            process.wait()
        for name in ANSWERS:
            (folder / name).unlink(missing_ok=True)

    @contextmanager
    def removed_if_refused(self, folder: Path) -> Iterator[None]:
        """Remove a folder of uploads if one of them cannot be used."""
        try:
            yield
        except EvokenError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def close(self) -> None:
        """End what still looks something up, and the queue."""
        for process in self.asides.values():
            process.kill()
            process.wait()
        self.queue.close()


def site_of(request: Request) -> Site:
    """The site that a request is for."""
    site: Site = request.app.state.site
    return site


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page, or a part of one, of a template. A browser that has it already is told so."""
    site = site_of(request)
    common = {"path": request.url.path, "at_work": at_work(site), "runs_folder": site.runs.name}
    text = templates("evoken.web").get_template(template).render(**common | values)
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:20]}"'
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    headers = {"etag": tag, "cache-control": "no-cache"}
    return HTMLResponse(text, status, headers)


def at_work(site: Site) -> list[Job]:
    """The jobs that run or wait."""
    return [job for job in site.queue.jobs() if job.state in (RUNNING, WAITING)]
