"""The report and the model card of a run: made from its folder alone."""

import json
from html import escape
from pathlib import Path
from shlex import quote

from evoken.files import write_text
from evoken.models.bases import SD1
from evoken.models.embedded import EMBEDDED
from evoken.models.provenance import is_hub_id, repository
from evoken.page import image, line_chart, page, table
from evoken.pictures.metrics import Score
from evoken.prompts import KINDS
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.settings import LearnSettings
from evoken.words.convert import diffusers_usage, taken
from evoken.words.files import WORD_FILE, read_embedding


def write_report(run: LearnRun) -> Path:
    """Write ``report.html``: one file with everything in it; returns its path."""
    path = run.path / "report.html"
    settings, records = run.settings, run.records()
    best = _result(settings, records)
    body = f"""<p class="note">A word learned with forward passes only: {records[-1].calls:,}
calls of {escape(run.spec.name)} in {_duration(records[-1].seconds)}. The validation loss was
{records[0].validation:.4f} at the start and {best.validation:.4f} at generation
{best.generation}, whose word is the result.</p>
<h2>The images</h2><div class="inputs">{_inputs(run)}</div>{_note(run)}
<h2>Before and after</h2>
<p>Each pair has the same sentence and the same noise: first with the word as it was at the start,
then with the learned word.</p>
{_samples(run, settings)}
<h2>How it was learned</h2>
{_curve(settings, records)}
<div class="previews">{_previews(run)}</div>
<h2>Use it</h2>
{_usage(run)}
<h2>Settings</h2>
{table(settings.to_dict())}"""
    write_text(path, page(settings.placeholder, body))
    return path


def _inputs(run: LearnRun) -> str:
    return "".join(image(p, p.stem) for p in run.inputs)


def _note(run: LearnRun) -> str:
    note = escape(str(run.config.get("note", ""))).replace("`name`", "<code>--model</code>")
    return f'<p class="note">{note}</p>' if note else ""


def _samples(run: LearnRun, settings: LearnSettings) -> str:
    rows = []
    for i, prompt in enumerate(settings.shown_prompts):
        before, after = (run.sample_path(i, n) for n in ("before", "after"))
        if before.exists() and after.exists():
            rows.append(
                f'<div class="pair"><p class="wide">{escape(prompt)}</p>{image(before, "before")}'
                f"{image(after, 'after')}</div>"
            )
    return "".join(rows)


def _previews(run: LearnRun) -> str:
    figures = []
    for generation, path in run.previews():
        about, score = f"generation {generation}", run.score_path(generation)
        if score.exists():
            about += f", CLIP {Score.from_dict(json.loads(score.read_text(encoding='utf-8')))}"
        figures.append(f"<figure>{image(path, about)}<figcaption>{about}</figcaption></figure>")
    return "".join(figures)


def _result(settings: LearnSettings, records: list[Record]) -> Record:
    """The record of the generation that gave the word."""
    last = "last-best" in settings.mistakes
    return records[-1] if last else min(records, key=lambda r: r.validation)


def _curve(settings: LearnSettings, records: list[Record]) -> str:
    """Validation loss over calls, the result marked."""
    best = _result(settings, records)
    return line_chart(
        [r.calls for r in records],
        [r.validation for r in records],
        "validation loss",
        mark=(best.calls, best.validation),
    )


def _usage(run: LearnRun) -> str:
    text = f"<pre>{escape(cli_usage(run))}</pre>"
    if usage := diffusers_code(run):
        text += f"<p>With diffusers:</p><pre>{escape(usage)}</pre>"
    other = f"evoken convert {quote(str(run.path))} --to comfyui"
    return f"{text}<p>To make a file for another program:</p><pre>{escape(other)}</pre>"


def cli_usage(run: LearnRun) -> str:
    """How to use the word with this program."""
    return f'evoken generate "{_example(run.settings)}" --word {quote(str(run.path))}'


def _example(settings: LearnSettings) -> str:
    """A sentence with the word in it."""
    return KINDS[settings.kind].edits[0].format(settings.placeholder)


def diffusers_code(run: LearnRun) -> str:
    """How to use the word with diffusers; "" for words that it does not load, such as those for
    Stable Diffusion 3.
    """
    embedding, path = read_embedding(run.path), run.path / WORD_FILE
    base, names = taken(embedding, "diffusers")
    if not names:
        return ""
    # Words without a base are those of a single CLIP of another width, as the sticker model has it.
    kind, model = (base or SD1).pipeline, run.spec.name
    source = f"from_pretrained({model!r})"
    if Path(model).is_file():
        source = f"from_single_file({model!r})"
    elif is_hub_id(model) and repository(model)[1]:
        source = "from_pretrained({!r}, revision={!r})".format(*repository(model))
    imports = f"from diffusers import {kind}"
    if model in EMBEDDED:
        imports = f"import evoken\n{imports}"
        source = f"from_pretrained(evoken.export_embedded({model!r}, {model!r}))"
    alone = embedding.layout == "token"
    keys = {name: embedding.placeholder if alone else name for name in names}
    return (
        f"{imports}\n\npipe = {kind}.{source}\n"
        f"{diffusers_usage(path, embedding.placeholder, base, keys)}\n"
        f'pipe("{_example(run.settings)}").images[0].save("picture.png")'
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def write_card(run: LearnRun) -> None:
    """Write ``README.md``, the model card."""
    settings, records = run.settings, run.records()
    model, usage = run.spec.name, diffusers_code(run)
    code = f"\n```python\n{usage}\n```\n" if usage else ""
    base = f"\nbase_model: {repository(model)[0]}" if is_hub_id(model) else ""
    article = "An" if settings.kind[0] in "aeiou" else "A"
    count = settings.vectors
    embeddings = "one token embedding" if count == 1 else f"{count} token embeddings"
    text = f"""---
tags:
- text-to-image
- textual-inversion
- diffusers{base}
---
# {settings.placeholder}

{article} {settings.kind} learned as {embeddings} for `{model}`, with {records[-1].calls:,} forward
passes and no gradients (evoken, preset `{settings.preset}`, seed {settings.seed}).

```
{cli_usage(run)}
```
{code}
The licence of the base model and the rights to the training images also apply to pictures made with
this word.
"""
    write_text(run.path / "README.md", text)
