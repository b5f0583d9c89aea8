"""Rendered pictures on disk: world samples, drawn once and read by every stage."""

import json
import multiprocessing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stickers import styles, world
from stickers.drawings import HANDS, load_objects

CHUNK = 500


def _render(job: tuple[int, int, int, bool]) -> tuple[int, np.ndarray, list[dict[str, Any]]]:
    seed, start, stop, held_out = job
    things = load_objects() if held_out else None
    names = tuple(styles.STYLES) if held_out else styles.TRAINED
    hands = tuple(HANDS) if held_out else world.TRAINED_HANDS
    samples = [world.sample(seed, i, things, names, hands) for i in range(start, stop)]
    rows = [{"caption": s.caption, **asdict(s.spec)} for s in samples]
    return start, np.stack([s.pixels for s in samples]), rows


def render_dataset(
    folder: Path, seed: int, count: int, held_out: bool = False, processes: int = 2
) -> None:
    """Write ``pixels.npy`` (count, SIZE, SIZE, 3 uint8) and ``rows.jsonl``; does nothing when they
    are there. With ``held_out``, the held-out objects, styles and hands are among the pictures.
    """
    if (folder / "rows.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, world.SIZE, world.SIZE, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
    rows: list[dict[str, Any]] = []
    jobs = [(seed, i, min(i + CHUNK, count), held_out) for i in range(0, count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for start, block, labels in pool.imap(_render, jobs):
            pixels[start : start + len(block)] = block
            rows += labels
            if start % 10_000 == 0:
                print(f"rendered {start:,} of {count:,} pictures", flush=True)
    pixels.flush()
    partial = folder / "rows.jsonl.partial"
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    partial.rename(folder / "rows.jsonl")


class Dataset:
    """The pictures and labels that ``render_dataset`` wrote."""

    def __init__(self, folder: Path) -> None:
        self.pixels: np.ndarray = np.load(folder / "pixels.npy", mmap_mode="r")
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.captions: list[str] = [row["caption"] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)
