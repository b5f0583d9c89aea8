"""Check what ``make package`` built: sizes, metadata, and that it works from a folder of its own.

    python -m tests.package build/package

Exits with the first thing that is wrong.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parent.parent
MOST_OF_WHEEL, MOST_OF_CHECKOUT = 60e6, 64 << 20  # bytes
LEFT_OUT = re.compile(r"\.jsonl(\.gz)?$|/\.venv/|/build/|/runs/")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_sizes(wheel)
    check_metadata(wheel)
    check_source(source)
    with tempfile.TemporaryDirectory() as target:
        check_installed(wheel, Path(target))
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, works when installed")


def check_sizes(wheel: Path) -> None:
    size = wheel.stat().st_size
    assert size < MOST_OF_WHEEL, f"the wheel has {size / 1e6:.1f} MB"
    if (ROOT / ".git").exists():
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        size = sum((ROOT / name).stat().st_size for name in listed.split("\0")[:-1])
        assert size < MOST_OF_CHECKOUT, f"the tracked files have {size / 1e6:.1f} MB"


def check_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (name,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(name), validate=True)
    templates = {f"evoken/templates/{path.name}" for path in (ROOT / "evoken/templates").iterdir()}
    assert {"evoken/py.typed", *templates} <= set(names)
    assert metadata.description_content_type == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", metadata.description or "")
    relative = [link for link in links if not link.startswith(("https://", "#"))]
    assert links and not relative, f"the index cannot follow {relative}"
    assert "<!--" not in (metadata.description or "")


def check_source(source: Path) -> None:
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    junk = [name for name in names if LEFT_OUT.search(f"/{name}")]
    assert not junk, f"the source archive holds {junk}"
    assert {"pyproject.toml", "tests/package.py", "docs/models.md", "CITATION.cff"} <= set(names)


def check_installed(wheel: Path, target: Path) -> None:
    """The wheel alone, beside the dependencies of this environment; the checkout out of reach."""
    installed = target / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, installed, wheel], check=True)
    environment = os.environ | {"PYTHONPATH": str(installed)}
    where = "import evoken; print(evoken.__file__)"
    found = subprocess.check_output(
        [sys.executable, "-c", where], cwd=target, env=environment, text=True
    )
    assert Path(found.strip()).is_relative_to(installed), found
    draw = ["generate", "a photo of a cat", "--count", "1", "--output", "pictures"]
    command = [sys.executable, installed / "bin" / "evoken", *draw]
    subprocess.run(command, cwd=target, env=environment, check=True)
    assert list((target / "pictures").glob("*.png"))


if __name__ == "__main__":
    main()
