"""Tests of a mutant, in a process forked from one that has imported the libraries."""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

from benchmarks.campaign.process import end_with_parent
from benchmarks.mutants.made import PACKAGE

ROOT = PACKAGE.parent
OURS = ("evoken", "stickers", "tests")
POLL = 0.02  # seconds
# A test that takes so many seconds, and so many times as long as without a fault, hangs.
LEAST, TIMES = 20.0, 5.0


@dataclass
class Seen:
    """What tests of an unchanged module execute.

    Attributes:
        seconds: how long each takes.
        lines: of the module's functions that each executes, in fixtures that it uses too.
    """

    seconds: dict[str, float]
    lines: dict[str, list[int]]


def import_libraries(folder: Path) -> None:
    """All that evoken and its tests import, but for themselves: every fork imports them anew, so
    that one of evoken's modules may be another.
    """
    from benchmarks.campaign.__main__ import import_everything

    import_everything()
    with contextlib.redirect_stdout(io.StringIO()):
        _test(["--collect-only", "tests"], folder, None)
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]
    gc.collect()
    gc.freeze()  # or every fork would look at all of that, and copy it


def watch(module: str, files: Sequence[str], folder: Path) -> Seen:
    """Run the tests in these files on the unchanged module.

    Raises:
        RuntimeError: one fails.
    """
    code, _ = _forked(lambda: _test(files, folder, _Watch(module, folder / "seen")), folder, None)
    if code:
        said = (folder / "output").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"tests fail without a fault in {module}:\n{said}")
    return Seen(**json.loads((folder / "seen").read_text()))


def fate(module: str, source: str, tests: Mapping[str, float], folder: Path) -> tuple[str, str]:
    """What becomes of a mutant ("killed", "slow" or "survived"), and the test that killed it.

    Args:
        module, source: the file below ``evoken/`` and what is to be in it.
        tests: in the order in which they run, and how many seconds they take without a fault.
    """
    name = ".".join(("evoken", *Path(module).with_suffix("").parts))

    def run() -> int:
        sys.meta_path.insert(0, _Finder(name, str(PACKAGE / module), source))
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        return _test(files, folder, _Chosen(tests, folder / "failed"))

    (folder / "failed").unlink(missing_ok=True)
    code, late = _forked(run, folder, LEAST + TIMES * sum(tests.values()))
    if late or code == -signal.SIGPROF:
        return "slow", ""
    if code == 0:
        return "survived", ""
    with suppress(OSError):
        return "killed", (folder / "failed").read_text()
    return "killed", "import"


def _test(arguments: Sequence[str], folder: Path, plugin: object) -> int:
    """Pytest in this process; its exit code."""
    import torch

    torch.set_num_threads(1)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    os.environ["EVOKEN_CACHE"] = str(folder / "cache")
    quiet = ("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider")
    warning = "ignore::pytest.PytestAssertRewriteWarning"
    fixed = ("--hypothesis-seed=0", f"--basetemp={folder / 'temporary'}", "-W", warning)
    return int(pytest.main([*quiet, *fixed, *arguments], [plugin] if plugin else []))


def _forked(run: Callable[[], int], folder: Path, seconds: float | None) -> tuple[int, bool]:
    """The exit code of what a forked process runs, and whether it took too long."""
    for left in ("temporary", "hypothesis/examples"):
        shutil.rmtree(folder / left, ignore_errors=True)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            end_with_parent()
            os.setsid()
            os.chdir(ROOT)
            output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.modules["__main__"] = ModuleType("__main__")
            code = run()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    remaining, before, late = seconds or float("inf"), time.monotonic(), False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        now = time.monotonic()
        remaining -= min(now - before, 1.0)  # a machine that sleeps does not run tests either
        before = now
        if remaining < 0 and not late:
            late = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(POLL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the tests have left
    return os.waitstatus_to_exitcode(status), late


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant in place of the module."""

    def __init__(self, name: str, path: str, source: str) -> None:
        self._name, self._loader = name, _Loader(name, path, source)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        where = self._loader.path
        return importlib.machinery.ModuleSpec(fullname, self._loader, origin=where)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Chosen:
    """Runs just these tests, in their order, and says which one failed."""

    def __init__(self, tests: Mapping[str, float], failed: Path) -> None:
        self._tests, self._failed = tests, failed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        by_name = {item.nodeid: item for item in items}
        items[:] = [by_name[test] for test in self._tests]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        # Ends this process; the time that it waits is looked after from outside.
        signal.setitimer(signal.ITIMER_PROF, LEAST + TIMES * self._tests[item.nodeid])
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.write_text(report.nodeid)


class _Watch:
    """Keeps which lines of a module's functions every test executes, and how long it takes.

    What a fixture of several tests executes counts for all tests that use it.
    """

    def __init__(self, module: str, file: Path) -> None:
        self._path, self._file = str(PACKAGE / module), file
        self._own: dict[str, set[int]] = defaultdict(set)
        self._shared: dict[str, set[int]] = defaultdict(set)
        self._uses: dict[str, list[str]] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._now: set[int] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        self._uses[item.nodeid] = list(item.fixturenames)
        self._now = self._own[item.nodeid]
        threading.settrace(self._enter)  # of threads that begin from now on
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before = self._now
        if fixturedef.scope != "function":
            self._now = self._shared[fixturedef.argname]
        try:
            return (yield)
        finally:
            self._now = before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._seconds[report.nodeid] = report.duration

    def pytest_sessionfinish(self) -> None:
        lines = {
            test: sorted(own.union(*(self._shared[name] for name in self._uses[test])))
            for test, own in self._own.items()
        }
        self._file.write_text(json.dumps({"seconds": self._seconds, "lines": lines}))

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename != self._path or code.co_name == "<module>":
            return None
        self._now.add(frame.f_lineno)
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._now.add(frame.f_lineno)
        return self._line
