"""The command that draws pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import AsJson, Out, Seed, WordPath, errors, load_word_and_spec, spec_of
from evoken.cli.options import From, takes
from evoken.options import ABOUT, BUDGET
from evoken.spec import ModelSpec

if TYPE_CHECKING:
    from evoken.models.base import Model
    from evoken.words.word import Word


@takes(spec=From(ModelSpec, defaults={"name": "the word's own, or stickers"}))
def generate(
    spec: dict[str, Any],
    prompt: Annotated[str, typer.Argument(help="What the pictures show.")],
    word: WordPath = None,
    count: Annotated[
        int, typer.Option(help="Number of pictures.", min=1, rich_help_panel=ABOUT)
    ] = 4,
    output: Annotated[
        Path, typer.Option(help="Folder for the pictures.", rich_help_panel=ABOUT)
    ] = Path("pictures"),
    seed: Seed = 0,
    guidance: Annotated[
        float, typer.Option(help="Classifier-free guidance; 1 means none.", rich_help_panel=ABOUT)
    ] = 5.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1, rich_help_panel=BUDGET)] = 25,
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt, with a learned word if one is given."""
    out = Out(as_json)
    with errors():
        from evoken.drawing import pictures_of, write_pictures
        from evoken.images import counted
        from evoken.models.load import started

        learned, of_word = load_word_and_spec(word)
        loaded = started(spec_of(learned, of_word, "stickers", spec), out.display)
        learned = _fitted_word(learned, prompt, loaded)
        placeholder, vectors = (learned.placeholder, learned.vectors) if learned else ("", None)
        images = pictures_of(loaded, prompt, placeholder, vectors, count, seed, steps, guidance)
        sheet = write_pictures(output, prompt, seed, images)
        out.say(f"{counted(count)} in {output}; together in {sheet}")
        pictures = [sheet.with_name(f"{sheet.stem}-{i:02}.png") for i in range(count)]
        out.result(pictures=[str(p) for p in pictures], sheet=sheet)


def _fitted_word(learned: Word | None, prompt: str, model: Model) -> Word | None:
    """The word as the model reads it, if there is one and it stands in the prompt."""
    from evoken.errors import WordError, shown
    from evoken.words.word import fitted

    if learned is None:
        return None
    found = fitted(learned, model)
    if learned.placeholder not in prompt:
        raise WordError(
            f"the prompt {shown(prompt)} does not hold the word {learned.placeholder}.",
            "Put the placeholder into the prompt.",
        )
    return found
