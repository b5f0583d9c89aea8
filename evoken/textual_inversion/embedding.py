"""A learned word as a file that diffusers loads with ``load_textual_inversion``."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from evoken.arrays import Vectors
from evoken.errors import WordError
from evoken.files import write_bytes

WORD_FILE = "learned_embeds.safetensors"


@dataclass(frozen=True)
class Word:
    """A pseudo-token: the string that stands for it in prompts, and its vector x width vectors."""

    placeholder: str
    vectors: Vectors


def save_word(path: Path, word: Word, about: dict[str, str]) -> None:
    """Write {placeholder: vectors} as float32, with ``about`` in the file's header (as one entry:
    safetensors writes several in any order, and the same word should be the same file).
    """
    tensors = {word.placeholder: word.vectors.detach().float().cpu().contiguous()}
    write_bytes(path, save(tensors, {"evoken": json.dumps(about, sort_keys=True)}))


def load_word(path: Path) -> Word:
    """Read a word from its file or from a run folder.

    Raises:
        WordError: no such file, not safetensors, or not exactly one word in it.
    """
    file = path / WORD_FILE if path.is_dir() else path
    if not file.is_file():
        raise WordError(f"a run folder or a .safetensors file with a word at {path}", "none there",
                        "Learn one with 'evoken learn'.")  # fmt: skip
    try:
        with safe_open(file, "pt") as content:
            names = list(content.keys())
            if len(names) != 1:
                raise WordError(f"one word in {file}", f"{len(names)} entries",
                                "Use a file with a single word.")  # fmt: skip
            vectors = content.get_tensor(names[0]).float()
    except (SafetensorError, OSError) as error:
        raise WordError("a safetensors file", f"{file} ({error})",
                        "Pickled words are never loaded; convert it first.") from error  # fmt: skip
    return Word(names[0], vectors if vectors.ndim == 2 else vectors[None])
