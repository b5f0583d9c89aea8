"""The program's edge, in processes of their own: signals, closed and full outputs, and bugs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evoken.files import new_folder, remove_abandoned, write_bytes
from tests.commands import files

pytestmark = pytest.mark.usefixtures("own_folder")

MAIN = "import sys; from evoken.cli import main; main()"
SMALL = ("--popsize", "5", "--draws", "4", "--validation-draws", "8", "--preview-every", "0")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``evoken`` with arguments as a process that hears signals as one of a terminal does."""

    own = {"EVOKEN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(
        *arguments: object, code: str = MAIN, stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | own,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_without_leftovers_and_says_how_to_go_on(
    start: Start, tiny_folder: Path, photos: Path, number: signal.Signals, code: int
) -> None:
    model = ("--model", tiny_folder / "model", "--clip", tiny_folder / "clip")
    process = start("learn", photos, *model, *SMALL, "--calls", 10**6, "--workers", 1)
    records = Path("runs/disc/records.jsonl")
    _wait(records.exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code and "evoken learn --resume runs/disc" in said
    assert "Traceback" not in said
    assert [name for name in files(Path("runs")) if "/." in name] == []


def _wait(until: Callable[[], object], most: float = 120) -> None:
    end = time.monotonic() + most
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 0.6])
def test_ctrl_c_at_the_very_beginning_is_no_traceback(start: Start, seconds: float) -> None:
    ready = "from evoken.cli import main; print('ready', flush=True); main()"
    process = start("inspect", "nothing.pt", code=ready)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, 2)  # it may have been done before
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_for_the_end_of_an_import(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """What is raised in a library's compiled code while it is imported aborts the process."""
    slow = "import os, time\nfor _ in range(3):\n"  # who waits presses Ctrl-C again
    slow += f"    os.kill(os.getpid(), {int(number)})\n    time.sleep(0.025)\n"
    slow += "time.sleep(0.3)\nprint('imported')\n"
    (tmp_path / "slow_library.py").write_text(slow)
    code = (
        f"import sys, time, evoken.words.files as f; sys.path.insert(0, {str(tmp_path)!r})\n"
        "def read(path):\n    import slow_library\n    time.sleep(60)\n"
        "f.read_embedding = read\n"
    )
    process = start("inspect", "a.pt", code=code + MAIN)
    out, said = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert out == "imported\n" and said.strip() == "Interrupted."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_makes_an_error_of_is_one(
    start: Start, number: signal.Signals
) -> None:
    """Importing a part of diffusers turns whatever happens then into an ImportError."""
    broken = (
        "import os, evoken.words.files as f\n"
        "from evoken.errors import WordError\n"
        "def broken(path):\n"
        f"    try: os.kill(os.getpid(), {int(number)})\n"
        "    except BaseException as e: raise {error} from e\n"
        "f.read_embedding = broken\n"
    )
    for error in ("WordError('it cannot be read.')", "ImportError('no module')"):
        code = broken.replace("{error}", error)
        process = start("inspect", "a.pt", code=code + MAIN)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert "error" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_before_the_command_begins_is_said(
    start: Start, number: signal.Signals
) -> None:
    early = (
        "import os, evoken.cli.app as a\n"
        f"a.Program.parse_args = lambda *_: os.kill(os.getpid(), {int(number)})\n"
    )
    process = start("runs", code=early + MAIN)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == "\nInterrupted. Nothing was started.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_output_is_a_sentence(start: Start, done: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("runs", stdout=full.fileno())
        _, said = process.communicate(timeout=60)
    assert process.returncode == 74
    assert said.startswith("error: could not print: no space left on device.")
    assert said.count("\n") == 1


def test_a_closed_pipe_is_silent(start: Start, done: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start("runs", stdout=writing)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert said == "" and process.returncode in (0, 1)


def test_a_bug_is_named_with_its_log(start: Start, tmp_path: Path) -> None:
    broken = (
        "import evoken.words.files as f\n"
        "def broken(path): raise LookupError(f'no {path} in /home/jane/secret, /tmp/x.pt')\n"
        "f.read_embedding = broken\n" + MAIN
    )
    process = start("inspect", "/home/jane/private.pt", "--json", code=broken)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 70 and out == ""
    (log,) = (tmp_path / "cache" / "bugs").iterdir()
    assert re.fullmatch(
        rf"error: this is a bug of evoken \(LookupError in evoken/cli/words\.py, line \d+\)\.\n"
        rf"Please report it with its log, {re.escape(str(log))},( on https://\S+)?\.\n",
        said,
    )
    text = log.read_text()
    assert "command: evoken inspect --json\n" in text and "evoken/cli/words.py:" in text
    for personal in ("jane", "secret", str(Path.home()), str(tmp_path), sys.prefix):
        assert personal not in text


def test_workers_that_still_import_end_with_their_parent(start: Start) -> None:
    code = (
        "import multiprocessing, os, time\n"
        "from evoken.evaluation.processes import Processes\n"
        "from tests.sums import sums\n"
        "if __name__ == '__main__':\n"
        "    Processes(sums, 2)\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = start(code=code)
    assert process.stdout is not None
    children = [int(word) for word in process.stdout.readline().split()]
    assert len(children) == 2
    process.kill()
    process.communicate()
    killed = time.monotonic()
    _wait(lambda: not any(_alive(child) for child in children), 10)
    assert time.monotonic() - killed < 3


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_killed_process_left_goes_with_the_next(done: Path) -> None:
    from tests.commands import evoken

    left = [done / ".records.jsonl.abcd1234", done / "samples" / ".00-after.png.c9cm04a6"]
    for file in left:
        file.write_bytes(b"half")
    (Path("runs") / ".new.33xzjk3y" / "inputs").mkdir(parents=True)
    assert evoken("learn", "--resume", done, "--calls", 300).exit_code == 0
    assert not any(file.exists() for file in left)
    with new_folder(Path("runs/new")) as folder:
        (folder / "a").write_text("")
        remove_abandoned(folder)  # not while it is being filled
    assert sorted(p.name for p in Path("runs").iterdir()) == ["disc", "new"]


def test_ctrl_c_while_a_file_is_written_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(Path("folder/file"), b"content")
    assert list(Path("folder").iterdir()) == []


def test_links_in_a_run_folder_are_not_written_through(done: Path, tmp_path: Path) -> None:
    from tests.commands import evoken, refused

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "records.jsonl").write_bytes((done / "records.jsonl").read_bytes())
    (done / "records.jsonl").unlink()
    (done / "records.jsonl").symlink_to(tmp_path / "mine" / "records.jsonl")
    before = files(tmp_path / "mine")
    for command in (("learn", "--resume", done, "--calls", 500), ("finish", done)):
        refused(evoken(*command), "records.jsonl is a link")
    (done / "records.jsonl").unlink()
    moved = tmp_path / "mine" / "samples"
    (done / "samples").rename(moved)
    (done / "samples").symlink_to(moved)
    refused(evoken("evaluate", done, "--count", 2), "samples is a link")
    assert files(tmp_path / "mine").items() >= before.items()


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's OpenMP")
@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_threads_that_wait_spin_briefly_unless_the_user_says_how(
    given: dict[str, str], spins: str
) -> None:
    """What OpenMP itself says when a command loads torch."""
    Path("runs").mkdir()
    free = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment = free | given | {"OMP_DISPLAY_ENV": "verbose"}
    said = subprocess.run(
        [sys.executable, "-c", MAIN, "runs"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in said
