"""Records: JSON, one to a line, each with a checksum; a file of them only ever grows at its end."""

import json
import os
import re
import zlib
from pathlib import Path
from typing import IO, Any

from evoken.documents import parse_json
from evoken.errors import RunError, one_line, shown
from evoken.files import cannot_write

BLOCK = 1 << 16  # bytes read at a time to find where the last line begins
CHECKSUM = re.compile(rb', "crc32": "([0-9a-f]{8})"}\n')


def read_records(file: Path, sealed: bool = True) -> list[dict[str, Any]]:
    """The records of a file; none where there is no file.

    A line at the end that is not whole is one that is being written, or that a crash has cut off:
    it is left out, and what it told is done again.

    Args:
        sealed: whether every line has a checksum; those of earlier versions have none.

    Raises:
        RunError: another line is not as it was written.
        OSError: the file cannot be read.
    """
    if not file.exists():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    found = []
    for i, line in enumerate(lines, 1):
        try:
            found.append(_parsed(line, sealed))
        except ValueError as error:
            if i < len(lines):
                raise damaged(file, f"line {i}: {error}") from error
    return found


def append_record(file: Path, value: dict[str, Any], sealed: bool = True) -> None:
    """Write a record to the end of a file, in place of a line there that is not whole.

    Args:
        sealed: as for ``read_records``.

    Raises:
        RunError: it cannot be written.
    """
    text = json.dumps(value, allow_nan=False).encode()
    line = text[:-1] + b', "crc32": "%08x"}\n' % zlib.crc32(text)
    try:
        with file.open("ab+") as stream:
            stream.truncate(_end_of_whole(stream, sealed))
            stream.write(line)
            stream.flush()
    except OSError as error:
        raise cannot_write(file, error) from error


def damaged(file: Path, reason: str) -> RunError:
    """The error for a file of a run that is not as it was written."""
    return RunError(
        f"{shown(file)} is damaged ({one_line(reason)}).",
        "Restore the file, or run the command again in another folder.",
    )


def _parsed(line: bytes, sealed: bool) -> dict[str, Any]:
    """The record of a line; ``ValueError`` if it is not whole."""
    if not line.endswith(b"\n"):
        raise ValueError("it is cut off")
    if found := CHECKSUM.search(line):
        text = line[: found.start()] + b"}"
        if found.end() != len(line) or zlib.crc32(text) != int(found[1], 16):
            raise ValueError("it is not as it was written")
        line = text
    elif sealed:
        raise ValueError("it is not as it was written")
    record = parse_json(line.decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    return record


def _end_of_whole(stream: IO[bytes], sealed: bool) -> int:
    """Where the last whole line ends: at the end, or where the last line begins."""
    size, length = stream.seek(0, os.SEEK_END), BLOCK
    while True:
        start = max(0, size - length)
        stream.seek(start)
        tail = stream.read(size - start)
        begin = tail[:-1].rfind(b"\n") + 1
        if begin or not start:
            break
        length *= 2
    try:
        _parsed(tail[begin:], sealed)
    except ValueError:
        return start + begin
    return size
