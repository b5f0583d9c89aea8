"""What the file of a learned word holds, whatever program wrote it.

Text encoders go by the names that ComfyUI gives them; see ``evoken.models.bases``.

Source: the readers and writers of diffusers, A1111, Forge, ComfyUI, InvokeAI, sd-scripts,
OneTrainer and ai-toolkit; docs/formats.md shows what loads where.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Vectors
from evoken.documents import parse_json
from evoken.errors import WordError, shown
from evoken.models.bases import BASES, ENCODERS, Base, encoder_of_width

ALIASES = {"t5": "t5xxl", "text_encoders_0": "clip_l", "text_encoders_1": "clip_g"}
# Those of words that a file may hold without their name: older programs know no other files.
NAMELESS = ("clip_l", "clip_g", "clip_h", "t5xxl")
PARAMS = ("emb_params", "emp_params", "*")  # keys that say nothing of the word or its encoder
BUNDLE = "bundle_emb."
MAX_VALUES = 2**24  # 64 MB; a tensor may claim more than its file holds

LAYOUTS = {
    "tensor": "one tensor without a name",
    "token": "{token: vectors}, as diffusers writes it",
    "emb_params": "{emb_params: vectors}, as sd-scripts and ai-toolkit write it",
    "emp_params": "{emp_params: vectors}, as OneTrainer writes it",
    "encoders": "vectors for each text encoder by name",
    "a1111": "string_to_param, as A1111 and the authors of textual inversion write it",
    "bundle": "bundle_emb, bundled with a LoRA",
}


@dataclass(frozen=True)
class Embedding:
    """A word as its file tells it.

    Attributes:
        placeholder: what stands for it in prompts; the file's stem if the file does not say.
        vectors: by text encoder, in the order of ENCODERS; float32, vector x width, finite.
        about: what the file says of its making.
        layout: one of LAYOUTS.
    """

    placeholder: str
    vectors: Mapping[str, Vectors]
    about: Mapping[str, str]
    layout: str

    @property
    def widths(self) -> dict[str, int]:
        """Of the vectors for each text encoder."""
        return {name: vectors.shape[1] for name, vectors in self.vectors.items()}

    @property
    def bases(self) -> tuple[Base, ...]:
        """The kinds of model that the word can be for: the one that the file names, if the vectors
        fit text encoders of it; else those whose encoders it has all; else those that have all of
        its encoders; the likeliest first.
        """
        named = self.about.get("architecture", "")
        found = tuple(base for base in BASES if self.widths.items() <= base.widths.items())
        whole = tuple(base for base in found if self._is_whole(base))
        return tuple(b for b in found if named.startswith(b.architecture)) or whole or found

    @property
    def purpose(self) -> str:
        """The bases as people call them, and the word's text encoders where it is no whole word;
        "" without a base.
        """
        names = " or ".join(base.name for base in self.bases)
        whole = all(self._is_whole(base) for base in self.bases)
        return names if whole else f"{names} ({' + '.join(self.vectors)} alone)"

    @property
    def serves(self) -> str:
        """The purpose; without a base, the model that the file names."""
        unknown = "a model of widths that other programs do not know"
        if model := self.about.get("model"):
            unknown = f"{shown(model, 100)}, {unknown}"
        return self.purpose or unknown

    def _is_whole(self, base: Base) -> bool:
        return set(base.widths) - set(self.vectors) <= {"t5xxl"}

    def with_encoders(self, other: "Embedding", source: Path) -> "Embedding":
        """The word with the vectors of further text encoders.

        Raises:
            WordError: both have vectors for one text encoder, or other words.
        """
        if set(self.vectors) & set(other.vectors) or self.placeholder != other.placeholder:
            raise WordError(
                f"{shown(source)} is not the second file of {shown(self.placeholder)}.",
                "Put the files of different words into different folders.",
            )
        both = {**self.vectors, **other.vectors}
        vectors = {name: both[name] for name in ENCODERS if name in both}
        return replace(self, vectors=vectors, layout="encoders")

    def side_by_side(self) -> Vectors:
        """The vectors of all text encoders in one row: vector x sum of the widths.

        Raises:
            WordError: the encoders have different numbers of vectors.
        """
        counts = {name: len(vectors) for name, vectors in self.vectors.items()}
        if len(set(counts.values())) > 1:
            raise WordError(
                f"a word must have as many vectors for every text encoder (got {_listed(counts)}).",
                "Learn the word again with one number for all (in OneTrainer, its token count).",
            )
        return torch.cat(list(self.vectors.values()), 1)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def told_by_width(widths: Mapping[str, int]) -> bool:
    """Whether a file with these vectors need not name their text encoder."""
    told = (n in NAMELESS and encoder_of_width(w) == n for n, w in widths.items())
    return len(widths) <= 1 and all(told)


def parse(content: object, header: Mapping[str, str], source: Path) -> Embedding:
    """Understand what was read from a file.

    Args:
        content: a tensor, or a dict as one of the LAYOUTS has it.
        header: the metadata of a safetensors file.
        source: the file, for its stem and for messages.

    Raises:
        WordError: of no known layout, of several words, or vectors that are no finite real numbers
            of rank 1 or 2.
    """
    about, token = _provenance(header)
    if isinstance(content, Tensor):
        layout, entries = "tensor", {"*": content}
    elif not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _foreign(source, f"a {type(content).__name__}")
    elif "string_to_param" in content:
        layout, words = "a1111", content["string_to_param"]
        if not isinstance(words, dict) or len(words) != 1:
            raise _foreign(source, "string_to_param that is not one word's")
        [(key, vectors)] = words.items()
        own = content.get("name")
        token = own if isinstance(own, str) else str(key)
        entries, token = {"*": vectors}, "" if token in PARAMS else token
        facts = ("step", "sd_checkpoint", "sd_checkpoint_name")
        about = {k: str(content[k]) for k in facts if isinstance(content.get(k), str | int)}
    elif any(key.startswith(BUNDLE) for key in content):
        layout, (token, entries) = "bundle", _bundled(content, source)
    else:
        layout, entries = "", content
    by_encoder, found, key = _by_encoder(entries, source)
    if skipped := ", ".join(filter(is_output, entries)):
        about["not read"] = f"{skipped} (output embeddings of OneTrainer)"
    placeholder = token or key or source.stem
    return Embedding(placeholder, by_encoder, about, layout or found)


def only(content: object, name: str, source: Path) -> dict[str, Any]:
    """Of the words in a file, the one of this name.

    Raises:
        WordError: there is none.
    """
    entries = content if isinstance(content, dict) else {}
    words = entries.get("string_to_param")
    if isinstance(words, dict):  # several words of the authors of textual inversion
        entries = words
        if name in words:
            return {"string_to_param": {name: words[name]}}
    bundled = {k: v for k, v in entries.items() if str(k).startswith(f"{BUNDLE}{name}.")}
    if bundled or name in entries:
        return bundled or {name: entries[name]}
    names = [str(key).removeprefix(BUNDLE).partition(".")[0] for key in entries]
    raise WordError(
        f"there is no word called {shown(name)} in {shown(source)}.",
        f"Use one of {', '.join(map(shown, dict.fromkeys(names)))}." if names else "",
    )


def is_output(entry: str) -> bool:
    """Whether an entry is what OneTrainer puts in place of a text encoder's output, by the name of
    the encoder and "_out". No other program knows such vectors.
    """
    stem = entry.removesuffix("_out")
    return stem != entry and (stem in PARAMS or ALIASES.get(stem, stem) in ENCODERS)


def _provenance(header: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """What a safetensors header says of the making, and the placeholder ("" if it does not say)."""
    try:
        own = parse_json(header["evoken"])
        about = {str(key): str(value) for key, value in own.items()}
        return about, about.pop("placeholder", "")
    except (KeyError, ValueError, AttributeError):
        about = dict(header)
    if "modelspec.architecture" in about:
        about["architecture"] = about["modelspec.architecture"].removesuffix("/textual-inversion")
    return about, about.get("modelspec.trigger_phrase") or about.get("name", "")


def _bundled(content: Mapping[str, Any], source: Path) -> tuple[str, dict[str, Any]]:
    """Name and entries of the one word that is bundled with a LoRA."""
    words: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        if key.startswith(BUNDLE):
            name, _, entry = (
                key.removeprefix(BUNDLE).replace("string_to_param.", "").rpartition(".")
            )
            words.setdefault(name, {})[entry] = value
    if len(words) != 1:
        raise _foreign(source, f"{len(words)} bundled words")
    return next(iter(words.items()))


def _by_encoder(entries: Mapping[str, Any], source: Path) -> tuple[dict[str, Vectors], str, str]:
    """Vectors by text encoder, the layout, and the token ("" if the keys name none)."""
    names = [name for name in entries if not is_output(name)]
    if entries and not names:
        raise WordError(
            f"{shown(source)} holds output embeddings of OneTrainer alone "
            f"({', '.join(map(shown, entries))}), which replace what a text encoder says and not "
            "what it reads.",
            "Train the word in OneTrainer again, without 'Output embedding'.",
        )
    encoders = {name: ALIASES.get(name, name) for name in names}
    if len(names) == 1 and encoders[names[0]] not in ENCODERS:
        (name,) = names
        vectors = _checked(entries[name], name, source)
        layout = name if name in LAYOUTS and name in PARAMS else "token"
        encoder = encoder_of_width(vectors.shape[1])
        return {encoder: vectors}, layout, "" if name in PARAMS else name
    if not names or not set(encoders.values()) <= set(ENCODERS):
        others = [name for name in names if encoders[name] not in ENCODERS]
        if names and len(others) < len(names):
            raise WordError(
                f"{shown(source)} has vectors for {', '.join(map(shown, others[:3]))} too, and no "
                f"model of {', '.join(base.name for base in BASES)} has such a text encoder.",
                "Use it in the program that wrote it.",
            )
        first = ", ".join(map(shown, names[:3]))
        raise _foreign(source, f"{len(names)} entries: {first}" if names else "nothing in it")
    found: dict[str, Vectors] = {}
    for name in sorted(names, key=lambda n: ENCODERS.index(encoders[n])):
        vectors = _checked(entries[name], name, source)
        if not torch.equal(found.setdefault(encoders[name], vectors), vectors):
            raise _foreign(source, f"two different words for {encoders[name]}")
    return found, "encoders", ""


def _checked(value: object, name: str, source: Path) -> Vectors:
    """Float32, vector x width."""
    problem = ""
    if not isinstance(value, Tensor):
        problem = f"a {type(value).__name__}"
    elif not value.is_floating_point():
        problem = str(value.dtype)
    elif value.ndim not in (1, 2) or not 0 < value.numel() <= MAX_VALUES:
        problem = f"shape {tuple(value.shape)}"
    else:
        vectors = torch.atleast_2d(value.detach().float()).clone(
            memory_format=torch.contiguous_format
        )
        if vectors.isfinite().all():
            return vectors
        problem = "NaN or infinity"
    raise WordError(
        f"the vectors in {shown(source)} must be real numbers, vector x width (got {problem} as "
        f"{shown(name)}).",
        "Use another file.",
    )


def _foreign(source: Path, what: str) -> WordError:
    return WordError(
        f"{shown(source)} must hold one word in a layout of {', '.join(LAYOUTS)} (got {what}).",
        "Use a file with a single word, or choose one of several words: FILE#NAME.",
    )
