"""How a learned word is used: what the report and the model card say. The commands are to be typed
in the folder that the run folder is in; no other path is in them.
"""

from pathlib import Path
from shlex import quote

from evoken.models.bases import SD1, Base
from evoken.models.embedded import EMBEDDED
from evoken.models.provenance import is_hub_id, public_name, repository
from evoken.prompts import KINDS
from evoken.run_folder import name_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.settings import LearnSettings
from evoken.words.convert import LANGUAGE, TOOLS, diffusers_usage, taken
from evoken.words.files import WORD_FILE, read_embedding


def cli_usage(run: LearnRun) -> str:
    """How to use the word with this program."""
    return f'evoken generate "{_example(run.settings)}" --word {quote(name_of(run.path))}'


def conversions(run: LearnRun) -> list[str]:
    """The commands that write files for the programs that have models for such a word."""
    embedding, name = read_embedding(run.path), quote(name_of(run.path))
    tools = (tool for tool in TOOLS if tool not in ("diffusers", "pt"))
    return [f"evoken convert {name} --to {t}" for t in tools if taken(embedding, t)[0]]


def diffusers_code(run: LearnRun) -> str:
    """How to use the word with diffusers; "" for words that it does not load, such as those for
    Stable Diffusion 3.
    """
    embedding, path = read_embedding(run.path), Path(name_of(run.path)) / WORD_FILE
    base, names = taken(embedding, "diffusers")
    if not names:
        return ""
    # Words without a base are those of a single CLIP of another width, as the sticker model has it.
    kind, model = (base or SD1).pipeline, run.spec.name
    source = f"from_pretrained({public_name(model)!r})"
    if Path(model).is_file():
        source = f"from_single_file({public_name(model)!r})"
    elif is_hub_id(model) and repository(model)[1]:
        source = "from_pretrained({!r}, revision={!r})".format(*repository(model))
    imports = f"from diffusers import {kind}"
    if model in EMBEDDED:
        imports = f"import evoken\n{imports}"
        source = f"from_pretrained(evoken.export_embedded({model!r}, {model!r}))"
    alone = embedding.layout == "token"
    keys = {name: embedding.placeholder if alone else name for name in names}
    count = len(embedding.vectors[names[0]])
    return (
        f"{imports}\n\npipe = {kind}.{source}\n"
        f"{diffusers_usage(path, embedding.placeholder, base, keys, count)}\n"
        f'pipe(prompt="{_spelled(run.settings, base, count)}").images[0].save("picture.png")'
    )


def is_local(model: str) -> bool:
    """Whether a model's name is a path, which is another one elsewhere."""
    return model not in EMBEDDED and not is_hub_id(model)


def _spelled(settings: LearnSettings, base: Base | None, count: int) -> str:
    """The same sentence, with a token for each of the word's vectors where its pipeline asks for
    that.
    """
    name = settings.placeholder
    more = "".join(f"{name}_{i}" for i in range(1, count)) if base in LANGUAGE else ""
    return _example(settings).replace(name, name + more)


def _example(settings: LearnSettings) -> str:
    """A sentence with the word in it."""
    return KINDS[settings.kind].edits[0].format(settings.placeholder)
