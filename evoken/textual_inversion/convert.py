"""A learned word as the file that another program reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evoken import __version__
from evoken.arrays import Vectors
from evoken.checks import one_of
from evoken.errors import RunError, WordError
from evoken.files import write_bytes
from evoken.textual_inversion.embedding_files import WORD_FILE, pt_bytes, safetensors_bytes
from evoken.textual_inversion.formats import FLUX, SD1, SD2, SD3, SDXL, Base, Embedding

Takes = dict[Base, tuple[str, ...]]  # the bases whose words a program loads, for which encoders

# Vectors that a program does not know are left out only where it fails on them.
ONE: Takes = {SD1: ("clip_l",), SD2: ("clip_h",)}
XL: Takes = {SDXL: ("clip_l", "clip_g")}
SD3_WHOLE: Takes = {SD3: ("clip_l", "clip_g", "t5xxl")}
FLUX_WHOLE: Takes = {FLUX: ("clip_l", "t5xxl")}
TOOLS: dict[str, Takes] = {
    "diffusers": ONE | XL | FLUX_WHOLE,
    "a1111": ONE | XL | SD3_WHOLE,
    "forge": ONE | XL | {FLUX: ("clip_l",)},
    "comfyui": ONE | XL | SD3_WHOLE | FLUX_WHOLE,
    "invokeai": ONE | XL,
    "pt": ONE,
}
NAMES = {
    "diffusers": "diffusers", "a1111": "A1111", "forge": "Forge", "comfyui": "ComfyUI",
    "invokeai": "InvokeAI", "pt": "A1111's .pt layout",
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """A file for another program.

    Attributes:
        path: where it belongs; in most programs its stem is the trigger.
        content: the same for the same word.
        usage: what to do with it there.
        caution: why it may not be loaded there; "" where it is.
    """

    path: Path
    content: bytes
    usage: str
    caution: str = ""

    def write(self, force: bool = False) -> None:
        """Write the file.

        Raises:
            RunError: another file is there and ``force`` is not set, or it cannot be written.
        """
        there = self.path.exists()
        if there and not force and not (self.path.is_file() and self._is_there()):
            raise RunError(f"a new file {self.path}", "one that is there already",
                           "Give another --output, or overwrite it with --force.")  # fmt: skip
        write_bytes(self.path, self.content)

    def _is_there(self) -> bool:
        return self.path.read_bytes() == self.content


def convert(embedding: Embedding, tool: str, folder: Path) -> Converted:
    """The word's file for one of TOOLS, in a folder. Nothing is written.

    Raises:
        SettingError: no such tool.
        WordError: the tool loads no words for this base.
    """
    one_of("tool", tool, tuple(TOOLS))
    base = next(iter(embedding.bases), None)
    vectors = {name: embedding.vectors[name] for name in encoders_for(embedding, tool)}
    if not vectors:
        raise _not_loaded(embedding, tool)
    stem = stem_of(embedding.placeholder)
    caution = "" if base or tool == "diffusers" else _caution(embedding, tool)
    if tool == "pt":
        usage = USAGE["a1111"].format(stem=stem)
        return Converted(folder / f"{stem}.pt", _pt(embedding), usage, caution)
    if base in (SDXL, SD3, FLUX) or len(vectors) > 1:
        tensors = _by_encoder(vectors)
    else:
        tensors = _alone(embedding.placeholder, next(iter(vectors.values())), tool)
    content = safetensors_bytes(tensors, _header(embedding, base))
    if tool == "diffusers":
        path = folder / WORD_FILE
        return Converted(path, content, diffusers_usage(path, embedding.placeholder, base, tensors))
    usage = USAGE[tool].format(stem=stem)
    return Converted(folder / f"{stem}.safetensors", content, usage, caution)


def _caution(embedding: Embedding, tool: str) -> str:
    widths = ", ".join(f"{name} {width}" for name, width in embedding.widths.items())
    known = ", ".join(base.name for base in TOOLS[tool])
    return f"Note: {NAMES[tool]} loads words for {known}; it has no model of this width ({widths})."


def encoders_for(embedding: Embedding, tool: str) -> list[str]:
    """The text encoders whose vectors a tool takes; none if it loads no words for this base.

    A word of other widths than any base's is written in the layout of a known one: it is for models
    that a tool may have one day, and shows the format (see ``Converted.caution``).
    """
    if not embedding.bases:
        written = len(embedding.vectors) == 1 or tool not in ("diffusers", "pt")
        return list(embedding.vectors) if written else []
    return [n for n in TOOLS[tool].get(embedding.bases[0], ()) if n in embedding.vectors]


def _not_loaded(embedding: Embedding, tool: str) -> WordError:
    widths = ", ".join(f"{name} of width {width}" for name, width in embedding.widths.items())
    got = embedding.bases[0].name if embedding.bases else f"another model ({widths})"
    others = ", ".join(t for t in TOOLS if encoders_for(embedding, t))
    return WordError(
        f"a word for {', '.join(b.name for b in TOOLS[tool])}, all that {NAMES[tool]} loads",
        f"one for {got}",
        f"Use --to with one of {others}." if others else "Use it with 'evoken generate'.",
    )


def stem_of(placeholder: str) -> str:
    """A file name that every program can use as the trigger: ComfyUI cuts names at < and [."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", placeholder)[:100].strip("-.") or "word"


def _alone(placeholder: str, vectors: Vectors, tool: str) -> dict[str, Vectors]:
    """The file's single entry: of more, A1111 and diffusers refuse the file. InvokeAI looks at the
    first axis of the vectors, except under the key emb_params.
    """
    if tool == "diffusers":
        return {placeholder: vectors}
    return {placeholder: vectors[0]} if len(vectors) == 1 else {"emb_params": vectors}


def _by_encoder(vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """By ComfyUI's names; diffusers and OneTrainer call t5xxl t5."""
    return dict(vectors) | ({"t5": vectors["t5xxl"]} if "t5xxl" in vectors else {})


def _header(embedding: Embedding, base: Base | None) -> dict[str, str]:
    """Provenance: the ModelSpec entries that sd-scripts writes for a word, and ours."""
    stem = stem_of(embedding.placeholder)
    about = dict(embedding.about) | {"placeholder": embedding.placeholder}
    header = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        "modelspec.implementation_version": f"evoken/{__version__}",
        "modelspec.title": stem,
        "modelspec.trigger_phrase": embedding.placeholder,
        "modelspec.usage_hint": f"In A1111 and Forge write {stem}, in ComfyUI embedding:{stem}, in "
        f"InvokeAI <{stem}>, in diffusers {embedding.placeholder}; the file's name counts.",
        "evoken": json.dumps(about, sort_keys=True),
    }
    if base is not None:
        named = about.get("architecture", "")
        exact = named if named.startswith(base.architecture) else base.architecture
        header["modelspec.architecture"] = f"{exact}/textual-inversion"
    if "model" in about:
        header["base_model"] = about["model"]
    return header


def _pt(embedding: Embedding) -> bytes:
    (vectors,) = embedding.vectors.values()
    return pt_bytes(
        {
            # The id of * in CLIP's vocabulary; InvokeAI looks for it.
            "string_to_token": {"*": 265},
            "string_to_param": {"*": vectors},
            "name": embedding.placeholder,
            "step": None,
            "sd_checkpoint": None,
            "sd_checkpoint_name": embedding.about.get("model"),
        }
    )


USAGE = {
    "a1111": "Put it into the folder embeddings of A1111 or Forge and write {stem} in the prompt.",
    "forge": "Put it into the folder embeddings of Forge and write {stem} in the prompt.",
    "comfyui": "Put it into models/embeddings of ComfyUI and write embedding:{stem} in the prompt.",
    "invokeai": "Add it with InvokeAI's model manager and write <{stem}> in the prompt.",
}


def diffusers_usage(
    path: Path, placeholder: str, base: Base | None, tensors: Mapping[str, Vectors]
) -> str:
    """Python that loads the word into ``pipe``: where there are several text encoders, one by one.

    A CLIP config that gives 2 for the end of text, as those of the hub do, makes its encoder read
    the pooled prompt at the largest id, which an added token now has. So the true id is set.
    """
    if base not in (SDXL, FLUX):
        return f"pipe.load_textual_inversion({str(path.parent)!r})"
    lines = ["from safetensors.torch import load_file", f"word = load_file({str(path)!r})"]
    for part, key in (("", "clip_l"), ("_2", "clip_g" if base is SDXL else "t5")):
        if key in tensors:
            lines.append(
                f"pipe.load_textual_inversion(word[{key!r}], token={placeholder!r}, "
                f"text_encoder=pipe.text_encoder{part}, tokenizer=pipe.tokenizer{part})"
            )
    pooled = "text_encoder_2.text_model" if base is SDXL else "text_encoder"
    tokenizer = "tokenizer_2" if base is SDXL else "tokenizer"
    lines.append(f"pipe.{pooled}.eos_token_id = pipe.{tokenizer}.eos_token_id")
    return "\n".join(lines)
