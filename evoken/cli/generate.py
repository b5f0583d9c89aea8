"""The command generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoken.cli.common import (
    Batch,
    Device,
    Encoders,
    ModelConfig,
    Precision,
    RuntimeName,
    Seed,
    Size,
    WordPath,
    errors,
    load_word_and_spec,
    quiet,
    spec_of,
    start_model,
)
from evoken.models.sampling import GUIDANCE, STEPS

if TYPE_CHECKING:
    from evoken.models.base import Model
    from evoken.words.word import Word


def generate(
    prompt: Annotated[str, typer.Argument(help="What the pictures show.")],
    word: WordPath = None,
    model: Annotated[str, typer.Option(help="By default the word's own model.")] = "",
    count: Annotated[int, typer.Option(help="Number of pictures.", min=1)] = 4,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1)] = STEPS,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = GUIDANCE,
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
    seed: Seed = 0,
    precision: Precision = "",
    batch: Batch = 0,
    device: Device = "",
    size: Size = 0,
    encoders: Encoders = "",
    model_config: ModelConfig = "",
    runtime: RuntimeName = "",
) -> None:
    """Draw pictures of a prompt, with a learned word if one is given."""
    with errors():
        quiet()
        from evoken.drawing import pictures_of, write_pictures
        from evoken.images import counted

        learned, of_word = load_word_and_spec(word)
        given = {
            "name": model, "precision": precision, "batch": batch, "device": device, "size": size,
            "encoders": encoders, "config": model_config, "runtime": runtime,
        }  # fmt: skip
        loaded = start_model(spec_of(learned, of_word, "stickers", given))
        learned = _fitted_word(learned, prompt, loaded)
        placeholder, vectors = (learned.placeholder, learned.vectors) if learned else ("", None)
        images = pictures_of(loaded, prompt, placeholder, vectors, count, seed, steps, guidance)
        sheet = write_pictures(output, prompt, seed, images)
        typer.echo(f"{counted(count)} in {output}; together in {sheet}")


def _fitted_word(learned: Word | None, prompt: str, model: Model) -> Word | None:
    """The word as the model reads it, if there is one and it stands in the prompt."""
    from evoken.errors import WordError
    from evoken.words.word import fitted

    if learned is None:
        return None
    found = fitted(learned, model)
    if learned.placeholder not in prompt:
        raise WordError(f"a prompt with {learned.placeholder}", repr(prompt),
                        "Put the placeholder into the prompt.")  # fmt: skip
    return found
