"""The report and the model card of a run: made from its folder alone."""

import base64
from html import escape
from pathlib import Path

from evoken.files import write_text
from evoken.prompts import EDITING_PROMPTS, RECONSTRUCTION_PROMPT
from evoken.run import Run
from evoken.textual_inversion.learn import Record
from evoken.textual_inversion.settings import LearnSettings

CSS = """
:root { color-scheme: light dark; --line: #8884; --accent: #d9480f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
img { max-width: 100%; border-radius: 4px; image-rendering: pixelated }
.inputs img { width: 128px; margin: 0 4px 4px 0 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1rem; margin: 1rem 0 }
.pair p, figcaption { margin: 0; font-size: .9rem } .wide { grid-column: 1 / -1; font-weight: 600 }
.previews { display: flex; flex-wrap: wrap; gap: 1rem } .previews figure { margin: 0; width: 17rem }
table { border-collapse: collapse; font-size: .9rem }
td, th { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left }
pre { background: #8882; padding: .75rem; overflow-x: auto; border-radius: 4px }
svg { width: 100%; height: auto } .note { opacity: .75 }
@media (max-width: 40rem) { .pair { grid-template-columns: 1fr } }
"""


def write_report(run: Run) -> Path:
    """Write ``report.html``: one file with everything in it; returns its path."""
    path = run.path / "report.html"
    settings, records = run.settings, run.records()
    name = escape(settings.placeholder)
    best = min(records, key=lambda r: r.validation)
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title><style>{CSS}</style></head><body>
<h1>{name}</h1>
<p class="note">A word learned with forward passes only: {records[-1].calls:,} calls of
{escape(run.spec.name)} in {_duration(records[-1].seconds)}. Validation loss
{records[0].validation:.4f} at the start, {best.validation:.4f} at generation
{best.generation}, which is the result.</p>
<h2>The images</h2><div class="inputs">{_inputs(run)}</div>
<h2>Before and after</h2>
<p>The same sentences and the same noise, with the word as it was at the start (left) and as it was
learned (right).</p>
{_samples(run, settings)}
<h2>How it was learned</h2>
{curve(records)}
<div class="previews">{_previews(run)}</div>
<h2>Use it</h2>
{_usage(run)}
<h2>Settings</h2>
{_table(settings)}
</body></html>
"""
    write_text(path, body)
    return path


def _image(path: Path, alt: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{content}">'


def _inputs(run: Run) -> str:
    return "".join(_image(p, p.stem) for p in sorted((run.path / "inputs").glob("*.png")))


def _samples(run: Run, settings: LearnSettings) -> str:
    prompts = (RECONSTRUCTION_PROMPT[settings.kind], *EDITING_PROMPTS[settings.kind])
    rows = []
    for i, template in enumerate(prompts):
        before, after = (run.path / "samples" / f"{i:02}-{n}.png" for n in ("before", "after"))
        if before.exists() and after.exists():
            prompt = escape(template.format(settings.placeholder))
            rows.append(
                f'<div class="pair"><p class="wide">{prompt}</p>{_image(before, "before")}'
                f"{_image(after, 'after')}</div>"
            )
    return "".join(rows)


def _previews(run: Run) -> str:
    return "".join(
        f"<figure>{_image(path, f'generation {generation}')}"
        f"<figcaption>generation {generation}</figcaption></figure>"
        for generation, path in run.previews()
    )


def curve(records: list[Record]) -> str:
    """Validation loss over calls, as SVG."""
    width, height, left, bottom = 800, 260, 70, 40
    calls = [r.calls for r in records]
    losses = [r.validation for r in records]
    low, high = min(losses), max(losses)
    room = (high - low) or 1.0

    def point(call: float, loss: float) -> tuple[float, float]:
        x = left + (width - left - 10) * call / max(calls[-1], 1)
        return x, 10 + (height - bottom - 10) * (high - loss) / room

    line = " ".join(
        "{:.1f},{:.1f}".format(*point(c, v)) for c, v in zip(calls, losses, strict=True)
    )
    best = min(records, key=lambda r: r.validation)
    x, y = point(best.calls, best.validation)
    marks = "".join(
        f'<text x="{left - 6}" y="{point(0, v)[1] + 4:.1f}" text-anchor="end">{v:.4f}</text>'
        for v in (low, high)
    )
    return f"""<svg viewBox="0 0 {width} {height}" role="img"
 aria-label="validation loss over calls"
 font-size="12" fill="currentColor">
<path d="M{left} 10V{height - bottom}H{width - 10}" fill="none" stroke="currentColor" opacity=".4"/>
<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>
<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--accent)"/>{marks}
<text x="{width - 10}" y="{height - 12}" text-anchor="end">{calls[-1]:,} calls</text>
<text x="{left}" y="{height - 12}">validation loss over calls</text></svg>"""


def _usage(run: Run) -> str:
    word = run.settings.placeholder
    return (
        f"<pre>{escape(cli_usage(run))}</pre><p>With diffusers:</p>"
        f"<pre>{escape(diffusers_usage(run, word))}</pre>"
    )


def cli_usage(run: Run) -> str:
    """How to use the word with this program."""
    return (
        f'evoken generate "a photo of a {run.settings.placeholder} on the beach" --word {run.path}'
    )


def diffusers_usage(run: Run, word: str) -> str:
    """How to use the word with diffusers."""
    return (
        "from diffusers import StableDiffusionPipeline\n\n"
        f"pipe = StableDiffusionPipeline.from_pretrained({run.spec.name!r})\n"
        f"pipe.load_textual_inversion({str(run.path)!r})\n"
        f'pipe("a photo of a {word} on the beach").images[0].save("beach.png")'
    )


def _table(settings: LearnSettings) -> str:
    rows = "".join(
        f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>"
        for k, v in settings.to_dict().items()
    )
    return f"<table>{rows}</table>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def write_card(run: Run) -> None:
    """Write ``README.md``, the model card."""
    settings, records = run.settings, run.records()
    model = run.spec.name
    text = f"""---
tags:
- text-to-image
- textual-inversion
- diffusers
base_model: {model}
---
# {settings.placeholder}

A {settings.kind} learned as {settings.vectors} token embedding(s) for `{model}`, with
{records[-1].calls:,} forward passes and no gradients (evoken, preset `{settings.preset}`, seed
{settings.seed}).

```
{cli_usage(run)}
```

```python
{diffusers_usage(run, settings.placeholder)}
```

The licence of the base model and the rights in the images apply to what is made with this word.
"""
    write_text(run.path / "README.md", text)
