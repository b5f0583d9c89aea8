"""A learned word as the file that another program reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from evoken.arrays import Vectors
from evoken.errors import RunError, WordError, shown
from evoken.files import check_can_write, write_bytes
from evoken.models.bases import (
    CHROMA,
    FLUX,
    FLUX_2_DEV,
    KLEIN_4B,
    KLEIN_9B,
    LUMINA_2,
    QWEN_IMAGE,
    SANA,
    SD1,
    SD2,
    SD3,
    SDXL,
    Z_IMAGE,
    Base,
)
from evoken.options import one_of
from evoken.words.files import WORD_FILE, pt_bytes, safetensors_bytes
from evoken.words.header import header, published, stem_of
from evoken.words.layouts import Embedding, told_by_width

# The bases whose words a program loads, and the encoders that a file may have vectors for.
Takes = dict[Base, tuple[tuple[str, ...], ...]]


def _any_of(base: Base) -> Takes:
    counts = range(1, len(base.widths) + 1)
    return {base: tuple(names for n in counts for names in combinations(base.widths, n))}


def _one(*bases: Base) -> Takes:
    return {base: (tuple(base.widths),) for base in bases}


ONE = _one(SD1, SD2)
XL = _one(SDXL)
FLUX_2 = _one(KLEIN_4B, KLEIN_9B, FLUX_2_DEV)
LANGUAGE = FLUX_2 | _one(Z_IMAGE, QWEN_IMAGE, SANA, LUMINA_2)
TOOLS: dict[str, Takes] = {
    "diffusers": ONE | _any_of(SDXL) | _any_of(FLUX) | _one(CHROMA) | LANGUAGE,
    "a1111": ONE | XL | {SD3: (("clip_l", "clip_g"), ("clip_l", "clip_g", "t5xxl"))},
    "forge": ONE | XL | {SD3: (("clip_l",), ("clip_g",)), FLUX: (("clip_l",),)},
    "comfyui": ONE | _any_of(SDXL) | _any_of(SD3) | _any_of(FLUX) | _one(CHROMA) | FLUX_2,
    "invokeai": ONE | XL,
    "pt": ONE,
}
NO_T5 = ("a1111", "forge")  # know no words in T5; Forge fails on a file with one
NAMES = {
    "diffusers": "diffusers",
    "a1111": "A1111",
    "forge": "Forge",
    "comfyui": "ComfyUI",
    "invokeai": "InvokeAI",
    "pt": "A1111's .pt layout",
}


@dataclass(frozen=True)
class Converted:
    """A file for another program.

    Attributes:
        path: where it belongs; in most programs its stem is the trigger.
        content: the same for the same word.
        usage: what to do with it there.
        caution: why it may not be loaded there, or which text encoders do without it; "" where all
            of them read it.
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
        check_can_write(self.path)
        there = self.path.exists()
        if there and not force and not (self.path.is_file() and self._is_there()):
            raise RunError(
                f"{shown(self.path)} already exists, with other content.",
                "Choose another folder with `output`, or overwrite it with `force`.",
            )
        write_bytes(self.path, self.content)

    def _is_there(self) -> bool:
        return self.path.read_bytes() == self.content


def convert(embedding: Embedding, tool: str, folder: Path) -> Converted:
    """The word's file for one of TOOLS, in a folder. Nothing is written.

    Raises:
        SettingError: no such tool.
        WordError: the tool loads no words for this base, or none for these of its text encoders.
    """
    one_of("tool", tool, tuple(TOOLS))
    base, names = taken(embedding, tool)
    if not names:
        raise _not_taken(embedding, tool)
    vectors = {name: embedding.vectors[name] for name in names}
    stem = stem_of(embedding.placeholder)
    caution = _left_out(tool, base, names) if base else _no_model(embedding, tool)
    if tool == "pt":
        usage = USAGE["a1111"].format(stem=stem)
        return Converted(folder / f"{stem}.pt", _pt(embedding), usage, caution)
    if (base and len(base.widths) > 1) or not told_by_width(embedding.widths):
        tensors = _by_encoder(vectors)
    else:
        tensors = _alone(embedding.placeholder, next(iter(vectors.values())), tool)
    content = safetensors_bytes(tensors, header(embedding, base))
    if tool == "diffusers":
        path = folder / WORD_FILE
        keys = {name: name for name in tensors}
        count = len(next(iter(vectors.values())))
        usage = diffusers_usage(path, embedding.placeholder, base, keys, count)
        return Converted(path, content, usage, caution)
    usage = USAGE[tool].format(stem=stem)
    return Converted(folder / f"{stem}.safetensors", content, usage, caution)


def taken(embedding: Embedding, tool: str) -> tuple[Base | None, tuple[str, ...]]:
    """The base that a tool loads the word for, and the text encoders whose vectors it takes; no
    encoders if it loads no such words.

    A word of other widths than any base's is written in the layout of a known one: it is for models
    that a tool may have one day, and shows the format (see ``Converted.caution``). diffusers has
    such models today, but loads words from a folder only where they have a single text encoder.
    """
    if not embedding.bases:
        alone = told_by_width(embedding.widths)
        written = {"pt": alone, "diffusers": alone and "architecture" not in embedding.about}
        return None, tuple(embedding.vectors) if written.get(tool, True) else ()
    names = tuple(n for n in embedding.vectors if n != "t5xxl" or tool != "forge")
    base = next((b for b in embedding.bases if names in TOOLS[tool].get(b, ())), None)
    return base, names if base else ()


def _no_model(embedding: Embedding, tool: str) -> str:
    if tool == "diffusers":
        return ""
    widths = ", ".join(f"{name} {width}" for name, width in embedding.widths.items())
    known = ", ".join(base.name for base in TOOLS[tool])
    return (
        f"Note: {NAMES[tool]} loads words for {known}; it has no model of this width ({widths}), "
        "and the file shows the format alone."
    )


def _left_out(tool: str, base: Base, names: tuple[str, ...]) -> str:
    """What becomes of the word in the base's other text encoders; "" if there are none."""
    heard = [n for n in names if n != "t5xxl" or tool not in NO_T5]
    others = " and ".join(n for n in base.widths if n not in heard)
    if not others:
        return ""
    fate = f"for {others} its name is plain text"
    if tool == "comfyui":
        fate = f"it leaves the word out for {others}, with a warning"
    elif tool == "diffusers":
        free, bound = ("prompt_2", "prompt") if "clip_l" in names else ("prompt", "prompt_2")
        fate += f", so give the pipeline a {bound} with the word and a {free} without it"
    return f"Note: {NAMES[tool]} reads the word with {' and '.join(heard)} alone; {fate}."


def _not_taken(embedding: Embedding, tool: str) -> WordError:
    others = " or ".join(t for t in TOOLS if taken(embedding, t)[1])
    fix = f"Use `tool` {others}" if others else "Use the word with 'evoken generate'"
    if base := next((b for b in embedding.bases if b in TOOLS[tool]), None):
        sets = TOOLS[tool][base]
        return WordError(
            f"{NAMES[tool]} loads words for {base.name} only with "
            f"{' or '.join(map(' + '.join, sets))} (got {' + '.join(embedding.vectors)}).",
            f"{fix}, or learn one with: evoken learn FOLDER --encoders {','.join(sets[0])}",
        )
    widths = ", ".join(f"{name} of width {width}" for name, width in embedding.widths.items())
    return WordError(
        f"{NAMES[tool]} only loads words for {', '.join(b.name for b in TOOLS[tool])} (got one "
        f"for {embedding.purpose or f'another model ({widths})'}).",
        f"{fix}.",
    )


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


def _pt(embedding: Embedding) -> bytes:
    (vectors,), about = embedding.vectors.values(), published(embedding.about)
    calls = about.get("calls", "")
    return pt_bytes(
        {
            # The id of * in CLIP's vocabulary; InvokeAI looks for it.
            "string_to_token": {"*": 265},
            "string_to_param": {"*": vectors},
            "name": embedding.placeholder,
            "step": int(calls) if calls.isdecimal() else None,
            "sd_checkpoint": None,
            "sd_checkpoint_name": about.get("model"),
        }
    )


USAGE = {
    "a1111": "Put it into the folder embeddings of A1111 or Forge and write {stem} in the prompt.",
    "forge": "Put it into the folder embeddings of Forge and write {stem} in the prompt.",
    "comfyui": "Put it into models/embeddings of ComfyUI and write embedding:{stem} in the prompt.",
    "invokeai": "Add it with InvokeAI's model manager and write <{stem}> in the prompt.",
}


def diffusers_usage(
    path: Path, placeholder: str, base: Base | None, keys: Mapping[str, str], count: int = 1
) -> str:
    """Python that loads the word into ``pipe``: where there are several text encoders, one by one.

    Args:
        path: of the file.
        keys: where in it the vectors for each text encoder are.
        count: how many vectors.

    A CLIP config that gives 2 for the end of text, as those of the hub do, makes its encoder read
    the pooled prompt at the largest id, which an added token now has. So the true id is set.
    """
    if base in LANGUAGE:
        return _language_usage(path, placeholder, base, next(iter(keys.values())), count)
    if base is None or len(base.widths) == 1:
        return f"pipe.load_textual_inversion({str(path.parent)!r})"
    if base not in TOOLS["diffusers"]:
        known = ", ".join(b.name for b in TOOLS["diffusers"])
        raise WordError(
            f"diffusers only loads words for {known} (got one for {base.name}).",
            "Use the word with 'evoken generate'.",
        )
    lines = ["from safetensors.torch import load_file", f"word = load_file({str(path)!r})"]
    for i, name in enumerate(base.widths):
        if name in keys:
            part = f"_{i + 1}" if i else ""
            lines.append(
                f"pipe.load_textual_inversion(word[{keys[name]!r}], token={placeholder!r}, "
                f"text_encoder=pipe.text_encoder{part}, tokenizer=pipe.tokenizer{part})"
            )
    if base is SDXL and "clip_g" in keys:
        lines.append("pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id")
    if base is FLUX and "clip_l" in keys:
        lines.append("pipe.text_encoder.eos_token_id = pipe.tokenizer.eos_token_id")
    return "\n".join(lines)


def _language_usage(path: Path, placeholder: str, base: Base, key: str, count: int) -> str:
    """Python that makes tokens of the word's vectors, for pipelines that load no words themselves.
    Within a prompt, the space before a word belongs to it, as to any other.
    """
    name = placeholder.lower() if base.small_letters else placeholder
    tokens = [name, *(f"{name}_{i}" for i in range(1, count))]
    lines = [
        "from safetensors.torch import load_file",
        "from tokenizers import AddedToken",
        f"word = load_file({str(path)!r})[{key!r}]",
        f"tokens = {tokens!r}",
        f"words = pipe.tokenizer{'.tokenizer' if base.processor else ''}",
        "names = [' ' + tokens[0], *tokens]",
        "words.add_tokens([AddedToken(name, normalized=False) for name in names])",
        "rows = max(len(words), pipe.text_encoder.get_input_embeddings().num_embeddings)",
        "pipe.text_encoder.resize_token_embeddings(rows, mean_resizing=False)",
        "table = pipe.text_encoder.get_input_embeddings().weight.data",
        "table[words.convert_tokens_to_ids(names)] = word[[0, *range(len(word))]].to(table)",
    ]
    if count > 1:
        lines.append(f"# In a prompt, write all tokens: {''.join(tokens)}")
    return "\n".join(lines)
