"""The model card of a learned word, ``README.md`` of its run folder: what the hub shows."""

import re

from huggingface_hub import ModelCard, ModelCardData

from evoken.errors import one_line, plain
from evoken.files import write_text
from evoken.models.provenance import is_hub_id, public_name, repository
from evoken.page import template_text
from evoken.run_folder import made, name_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.usage import cli_usage, diffusers_code, is_local


def write_card(run: LearnRun) -> None:
    """Write ``README.md``; it carries no path."""
    settings, model = run.settings, run.spec.name
    code, count = diffusers_code(run), settings.vectors
    how = f"preset {settings.preset}, seed {settings.seed}"
    if run.start_name:
        how += f", started from the word {_plain(run.start_name)}"
    if settings.also:
        how += f", learned for {_plain(public_name(settings.also))} as well"
    card = ModelCard.from_template(
        ModelCardData(
            base_model=repository(model)[0] if is_hub_id(model) else None,
            library_name="diffusers" if code else None,
            tags=["text-to-image", "textual-inversion", "diffusers"],
            instance_prompt=settings.placeholder,
            widget=_examples(run) or None,
        ),
        template_str=template_text("card.md"),
        title=_plain(settings.placeholder),
        article="An" if settings.kind[0] in "aeiou" else "A",
        kind=settings.kind,
        embeddings="one token embedding" if count == 1 else f"{count} token embeddings",
        model=_plain(public_name(model)),
        calls=f"{run.records()[-1].calls:,}",
        made=", ".join(filter(None, (made(run.config), how))),
        folder=_plain(name_of(run.path)),
        command=cli_usage(run),
        code=code,
        local_model=is_local(model),
    )
    write_text(run.path / "README.md", plain(str(card), "\n"))


def _examples(run: LearnRun) -> list[dict[str, object]]:
    """Sentences and pictures for the hub's gallery."""
    found: list[dict[str, object]] = []
    for i, text in enumerate(run.settings.shown_prompts):
        if (file := run.sample_path(i, "after")).exists():
            found.append({"text": text, "output": {"url": file.relative_to(run.path).as_posix()}})
    return found


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$-])", r"\\\1", one_line(text))
