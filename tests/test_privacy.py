"""Nothing is reported, and nothing that is published says where it was made."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
import torch

from evoken.cli.app import app
from evoken.evaluation.ray_cluster import RayWorkers
from evoken.textual_inversion.folder import LearnRun
from evoken.words.convert import TOOLS
from evoken.words.files import read_embedding, safetensors_bytes
from tests.commands import SMALL, evoken
from tests.conftest import make_photos
from tests.sums import Sums, sums

pytestmark = pytest.mark.usefixtures("own_folder")

# Imported by every Python process that finds it on its path, before anything else.
GUARD = """
import os, socket

def refuse(self, address, *rest):
    host = address[0] if isinstance(address, tuple) else "127.0.0.1"  # a socket of this machine
    if host not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{address}\\n")
        raise OSError("the network is refused")
    return connect(self, address, *rest)

def resolve(host, *rest, **more):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", socket.gethostname()):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{host}\\n")
        raise socket.gaierror("the network is refused")
    return found(host, *rest, **more)

connect, found = socket.socket.connect, socket.getaddrinfo
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = resolve
"""
MODEL = ("--model", "tiny/model", "--clip", "tiny/clip")
FLOW = ("--model", "tiny/flow", "--steps", 2, "--iterations", 1)
CAT = "a photo of a cat"
TURN = ("--from", CAT, "--to", "a photo of a dog", "--clip", "tiny/clip")
# Every command once, and learn with every place to compute in.
WALK: list[tuple[object, ...]] = [
    ("learn", "disc", *MODEL, *SMALL),
    *(
        ("learn", "disc", *MODEL, *SMALL, "--output", f"runs/{way[1]}", *way)
        for way in (("--runtime", "onnx"), ("--runtime", "openvino"), ("--ray", "local"))
    ),
    ("finish", "runs/disc"),
    ("generate", "a <disc>", "--word", "runs/disc", "--count", 1, "--steps", 2),
    ("evaluate", "runs/disc", "--count", 2),
    ("invert", "disc/0.png", *FLOW, "--prompt", CAT),
    ("edit", "disc/0.png", *FLOW, *TURN, "--output", "runs/edit"),
    ("pick", "runs/edit", 1),
    ("runs",),
    ("compare", "runs/disc", "runs/onnx"),
    ("convert", "runs/disc", "--to", "comfyui"),
    ("merge", "runs/disc:0.5", "runs/onnx:0.5", "--output", "both.safetensors"),
    ("inspect", "runs/disc"),
    ("retrieve", "runs/disc", "disc"),
    ("flowopt", "step-size", "disc/0.png", *FLOW, "--prompt", CAT),
    ("web", "runs", "--port", 0, "--no-browser"),
]


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with an empty home, whose machine has no network and does not look
    like a test's, on which libraries report nothing anyway.
    """
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "home").mkdir()
    path = os.pathsep.join([str(tmp_path / "guard"), os.getcwd(), *sys.path])
    told = ("PATH", "LD_LIBRARY_PATH", "LANG")
    return {name: os.environ[name] for name in told if name in os.environ} | {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": path,
        "ATTEMPTS": str(tmp_path / "attempts"),
        "OMP_NUM_THREADS": "1",
    }


def test_no_command_reports_anything(
    alone: dict[str, str], tmp_path: Path, tiny_folder: Path
) -> None:
    from typer.main import get_command

    names = {str(row[0]) for row in WALK}
    assert names == set(get_command(app).commands)  # type: ignore[attr-defined]
    make_photos(Path("disc"))
    shutil.copytree(tiny_folder, "tiny")
    rows = [[str(word) for word in row] for row in WALK]
    script = (
        "import json, os, signal, sys, threading\n"
        "from tests.commands import evoken\n"
        "if __name__ == '__main__':\n"
        "    for row in json.loads(sys.argv[1]):\n"
        "        served = row[0] == 'web'\n"
        "        if served:  # until Ctrl-C\n"
        "            threading.Timer(8, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "        result = evoken(*row)\n"
        "        ended = 130 if served else 0\n"
        "        assert result.exit_code == ended, (row, result.output, result.stderr)\n"
    )
    Path("walk.py").write_text(script)
    made = subprocess.run(
        [sys.executable, "walk.py", json.dumps(rows)], env=alone, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-3000:]
    attempts = tmp_path / "attempts"
    assert not attempts.exists(), attempts.read_text()
    home = tmp_path / "home"
    left = [p.relative_to(home) for p in home.rglob("*") if p.is_file()]
    assert [str(p) for p in left if p.parts[:2] != (".cache", "evoken")] == []


def test_the_libraries_do_report_where_nothing_stops_them(
    alone: dict[str, str], tmp_path: Path
) -> None:
    """Otherwise the test above could not fail."""
    Path("plain.py").write_text("import onnxruntime, openvino")
    subprocess.run([sys.executable, "plain.py"], env=alone, check=True, capture_output=True)
    names = {p.name for p in (tmp_path / "home").rglob("*")}
    assert names >= {".onnxruntime", "openvino_ga_cid"}


def test_what_is_published_carries_no_path(done: Path, tmp_path: Path) -> None:
    """The model was given as an absolute path, and the run is in a temporary folder."""
    assert LearnRun.open(done).spec.name[0] == "/"
    make_photos(Path("disc"))
    assert evoken("evaluate", done, "--count", 2).exit_code == 0
    assert evoken("retrieve", done, tmp_path / "disc").exit_code == 0
    for tool in TOOLS:
        evoken("convert", done, "--to", tool, "--output", f"converted/{tool}")
    assert evoken("merge", f"{done.resolve()}:1", "--output", "converted/merged.safetensors")
    published = [p for p in done.rglob("*") if p.is_file() and p.name != "config.json"]
    converted = [p for p in Path("converted").rglob("*") if p.is_file()]
    assert {p.suffix for p in converted} == {".safetensors", ".pt"}
    for file in published + converted:
        content = file.read_bytes()
        for where in (str(tmp_path), str(Path.home()), tempfile.gettempdir() + "/"):
            assert where.encode() not in content, f"{where} in {file}"


def test_a_path_in_a_foreign_word_is_not_passed_on() -> None:
    about = {"model": "/home/jane/models/sd15", "made": "C:\\Users\\jane\\x.yaml", "note": "a/b"}
    vectors = torch.ones(1, 768)
    content = safetensors_bytes({"<cat>": vectors}, {"evoken": json.dumps(about)})
    Path("cat.safetensors").write_bytes(content)
    assert evoken("convert", "cat.safetensors", "--to", "comfyui", "--output", "out").exit_code == 0
    (file,) = Path("out").glob("*.safetensors")
    assert b"jane" not in file.read_bytes()
    kept = read_embedding(file).about
    assert (kept["model"], kept["made"], kept["note"]) == ("sd15", "x.yaml", "a/b")


def test_ray_of_this_machine_is_heard_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:  # names of sockets may only be short
        monkeypatch.setenv("RAY_TMPDIR", place)
        with closing(RayWorkers(sums, "local", 1)) as workers:
            workers(torch.ones(2, 1, 3), Sums().split(2, 1))
            heard = listening(processes_of(os.getpid()))
            assert len(heard) >= 3
            assert {address for address in heard if not address.is_loopback} == set()
            assert Path(workers._folder).is_dir()
            # A driver that was killed before leaves processes that go on writing for a while.
            (Path(place) / "evoken-ray-killed" / "session").mkdir(parents=True)
        assert not list(Path(place).iterdir())


def processes_of(parent: int) -> set[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, rest = set[int](), [parent]
    while rest:
        found.add(process := rest.pop())
        rest += children.get(process, [])
    return found


def listening(processes: set[int]) -> list[IPv4Address | IPv6Address]:
    """The addresses on which these processes listen for TCP."""
    sockets = set()
    for process in processes:
        with suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(os.readlink(link))
    found: list[IPv4Address | IPv6Address] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                words = bytes.fromhex(fields[1].partition(":")[0])
                turned = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                address = ip_address(turned)
                mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
                found.append(mapped or address)
    return found
