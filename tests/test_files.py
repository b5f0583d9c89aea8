"""Files are whole or absent, and what cannot be written is said before anything is tried."""

import errno
import os
import stat
from pathlib import Path

import pytest

from evoken.errors import RunError
from evoken.files import (
    check_can_write,
    lock_folder,
    new_folder,
    remove_abandoned,
    remove_partial,
    write_bytes,
    write_csv,
    write_json,
)

pytestmark = pytest.mark.usefixtures("own_folder")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("length", [1, 255, 256, 300])
def test_names_are_as_long_as_file_systems_take_them(length: int) -> None:
    for path in (Path("x" * length), Path("missing") / ("x" * length), Path("é" * (length // 2))):
        if len(os.fsencode(path.name)) <= 255:
            check_can_write(path)
        else:
            with pytest.raises(RunError, match="file name too long"):
                check_can_write(path)
    assert not os.listdir()


@pytest.mark.parametrize("path", ["file/below", "a\0b"])
def test_a_place_where_nothing_can_be_is_said_with_what_to_do(path: str) -> None:
    Path("file").write_text("mine")
    with pytest.raises(RunError, match=r"could not write .*\. Choose another one\."):
        check_can_write(Path(path), "Choose another one.")
    with pytest.raises(RunError, match="could not write"):
        write_bytes(Path("file/below"), b"")
    assert Path("file").read_text() == "mine"


def test_everybody_may_read_what_is_written() -> None:
    write_bytes(Path("folder/file"), b"old")
    write_bytes(Path("folder/file"), b"new")
    with new_folder(Path("folder/deep/er/new")) as folder:
        (folder / "file").write_bytes(b"content")
        assert not Path("folder/deep/er/new").exists()
    assert mode(Path("folder/file")) == 0o644 and mode(Path("folder/deep/er/new")) == 0o755
    found = [str(p) for p in sorted(Path("folder").rglob("*")) if p.is_file()]
    assert found == ["folder/deep/er/new/file", "folder/file"]
    assert os.listdir("folder/deep/er") == ["new"]
    assert Path("folder/file").read_bytes() == b"new"


def test_what_nobody_else_may_read_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoken.files.UMASK", 0o077)
    write_bytes(Path("file"), b"")
    with new_folder(Path("new")):
        pass
    assert mode(Path("file")) == 0o600 and mode(Path("new")) == 0o700


def test_a_folder_that_was_not_filled_is_nowhere() -> None:
    def fill_half() -> None:
        with new_folder(Path("folder/new")) as folder:
            (folder / "file").write_bytes(b"content")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fill_half()
    assert not os.listdir("folder")
    with pytest.raises(RunError, match="could not write"), new_folder(Path("folder/new")):
        raise OSError("disk")


def test_a_folder_that_is_filled_is_let_go_of() -> None:
    def fill(name: str) -> None:
        with new_folder(Path(name)) as folder:
            (folder / "file").write_bytes(b"content")

    before = len(os.listdir("/dev/fd"))
    for i in range(5):
        fill(f"folder/{i}")
    assert len(os.listdir("/dev/fd")) == before
    lock = lock_folder(Path("folder/0"))
    assert lock is not None  # nobody else has it
    os.close(lock)


def test_half_written_files_are_removed_and_nothing_else() -> None:
    kept = ["file", ".file", ".file.short", ".file.muchlonger", "folder/file.abcdefgh"]
    for name in (*kept, ".file.abcdefgh", "folder/.file.12345678"):
        write_bytes(Path(name), b"content")
    Path("folder/.link.abcdefgh").symlink_to(Path("file").absolute())
    Path(".folder.abcdefgh").mkdir()
    remove_partial(Path())
    found = {str(p) for p in Path().rglob("*") if not p.is_dir()}
    assert found == {*kept, "folder/.link.abcdefgh"} and Path(".folder.abcdefgh").is_dir()


def test_a_folder_is_abandoned_once_nobody_has_locked_it() -> None:
    Path("made").mkdir()
    Path("link").symlink_to("made")
    lock = lock_folder(Path("made"))
    assert lock is not None and lock_folder(Path("made")) is None
    remove_abandoned(Path("made"))
    assert Path("made").is_dir()
    os.close(lock)
    remove_abandoned(Path("link"))
    assert Path("made").is_dir()
    remove_abandoned(Path("made"))
    assert not Path("made").exists()


def test_a_link_is_no_abandoned_folder() -> None:
    Path("kept").mkdir()
    Path("kept", "file").touch()
    Path("link").symlink_to("kept")
    Path("other").touch()
    for path in ("link", "other", "missing"):
        remove_abandoned(Path(path))
    assert Path("link").is_symlink() and Path("kept", "file").exists() and Path("other").exists()


def test_where_file_systems_have_no_locks_nobody_is_kept_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with new_folder(Path("run")) as folder:
        (folder / "file").touch()
        lock = lock_folder(folder)
        assert lock is not None
        os.close(lock)
    assert Path("run", "file").exists()


def test_tables_and_json_are_the_same_everywhere() -> None:
    write_csv(Path("table.csv"), [{"a": 1, "b": None}, {"a": "x,y", "b": 0.5}])
    assert Path("table.csv").read_bytes() == b'a,b\n1,\n"x,y",0.5\n'
    write_json(Path("x.json"), {"b": 1, "a": ["é"]})
    assert Path("x.json").read_text() == '{\n "a": [\n  "\\u00e9"\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path("x.json"), float("nan"))
    assert Path("x.json").read_text().startswith("{")
