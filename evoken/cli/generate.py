"""The command that draws pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evoken.cli.common import (
    AsJson,
    Out,
    Seed,
    WordPaths,
    check_folder,
    errors,
    load_words,
    spec_of,
)
from evoken.cli.options import From, takes
from evoken.options import ABOUT, BUDGET
from evoken.spec import FITTING, ModelSpec


@takes(spec=From(ModelSpec, defaults=FITTING | {"name": "the word's own, or stickers"}))
def generate(
    spec: dict[str, Any],
    prompt: Annotated[str, typer.Argument(help="What the pictures show.")],
    word: WordPaths = None,
    count: Annotated[int, typer.Option(help="Number of pictures.", rich_help_panel=ABOUT)] = 4,
    output: Annotated[
        Path, typer.Option(help="Folder for the pictures.", rich_help_panel=ABOUT)
    ] = Path("pictures"),
    seed: Seed = 0,
    negative: Annotated[
        str,
        typer.Option(help="What the pictures should not show.", rich_help_panel=ABOUT),
    ] = "",
    guidance: Annotated[
        float, typer.Option(help="Classifier-free guidance; 1 means none.", rich_help_panel=ABOUT)
    ] = 5.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.", rich_help_panel=BUDGET)] = 25,
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt, with learned words if some are given."""
    out = Out(as_json)
    with errors():
        from evoken.dialects import notes
        from evoken.files import check_can_write
        from evoken.images import SUFFIXES, counted
        from evoken.models.load import started
        from evoken.models.sampling import check_sampling
        from evoken.pictures.drawing import images_of, write_pictures

        check_sampling(count, steps, guidance)
        check_folder(output, SUFFIXES)
        check_can_write(output / "picture.png")
        words, of_words = load_words(word)
        for note in notes((prompt, negative), [w.placeholder for w in words]):
            out.display.note(note)
        loaded = started(spec_of(words, of_words, "stickers", spec), out.display)
        images = images_of(loaded, prompt, words, count, seed, steps, guidance, negative)
        sheet = write_pictures(output, prompt, seed, images)
        files = [str(sheet.with_name(f"{sheet.stem}-{i:02}.png")) for i in range(count)]
        out.say(f"{counted(count)} in {output}; together in {sheet}")
        out.result(pictures=files, sheet=sheet)
