"""The commands on words that are learned: convert, inspect, retrieve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoken.cli.common import ModelConfig, Seed, errors, quiet, told
from evoken.errors import EvokenError

if TYPE_CHECKING:
    from evoken.models.base import Model
    from evoken.words.layouts import Embedding

AnyWord = Annotated[
    Path, typer.Argument(metavar="WORD", help="A run folder, or any embedding file.")
]


def convert(
    context: typer.Context,
    path: AnyWord,
    tool: Annotated[
        str,
        typer.Option("--to", help="diffusers, a1111, forge, comfyui, invokeai, or pt (for A1111)."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the file; embeddings/WORD by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another file.")] = False,
) -> None:
    """Write a word as the file that another program loads."""
    with errors(context):
        from evoken.words.convert import convert
        from evoken.words.files import read_embedding
        from evoken.words.header import stem_of

        embedding = read_embedding(path)
        folder = output or Path("embeddings") / stem_of(embedding.placeholder)
        converted = convert(embedding, tool, folder)
        converted.write(force)
        typer.echo(f"{_plain(embedding.placeholder)} for {_bases(embedding)}: {converted.path}")
        for text in filter(None, (converted.caution, converted.usage)):
            typer.echo(_plain(text, "\n"))


def inspect(
    context: typer.Context,
    path: AnyWord,
    model: Annotated[
        str, typer.Option(help="Name its nearest words; by default its own model's, if at hand.")
    ] = "",
    model_config: ModelConfig = "",
) -> None:
    """Tell what an embedding file is: its layout, its base, its norms, the words nearest to it."""
    with errors(context):
        quiet()
        from evoken.words.files import read_embedding
        from evoken.words.layouts import LAYOUTS

        embedding = read_embedding(path)
        rows = [
            ("word", _plain(embedding.placeholder)),
            ("layout", LAYOUTS[embedding.layout]),
            ("for", _bases(embedding)),
        ]
        for name, vectors in embedding.vectors.items():
            norms = ", ".join(f"{norm:.3f}" for norm in vectors.norm(dim=1).tolist())
            rows.append((name, f"{len(vectors)} x {vectors.shape[1]}, norm {norms}"))
        rows += [(_plain(key), _plain(value)) for key, value in sorted(embedding.about.items())]
        for name, text in rows:
            typer.echo(f"{name:12} {text}")
        if model:
            _show_nearest(embedding, model, model_config)
        elif own := _model_at_hand(embedding):
            try:
                _show_nearest(embedding, own, model_config)
            except EvokenError as error:
                typer.echo(f"Note: no nearest words: {told(error)}")
        else:
            typer.echo("Give --model to see the nearest words of its vocabulary.")


def _plain(text: str, keep: str = "") -> str:
    """Foreign text for a terminal: no control characters, not endless."""
    plain = "".join(c if c.isprintable() or c in keep else "?" for c in text)
    return plain if keep or len(plain) <= 100 else plain[:100] + "..."


def _bases(embedding: Embedding) -> str:
    return embedding.purpose or "a model of other widths than Stable Diffusion's and FLUX's"


def _model_at_hand(embedding: Embedding) -> str:
    """The model that the file names, if nothing would have to be downloaded; else ""."""
    from evoken.models.embedded import EMBEDDED

    name = embedding.about.get("model", "")
    return name if name in EMBEDDED or os.path.isfile(f"{name}/model_index.json") else ""


def _encoders(embedding: Embedding) -> str:
    """The word's text encoders, as a model's spec has them; "" where neither names nor widths in
    the file show them.
    """
    named = embedding.layout == "encoders" or "architecture" in embedding.about
    return ",".join(embedding.vectors) if named or embedding.bases else ""


def _show_nearest(embedding: Embedding, name: str, config: str) -> None:
    from evoken.models.base import ModelSpec
    from evoken.models.load import load_model
    from evoken.words.word import fitted, nearest_words, word_of

    word = word_of(embedding)
    model: Model = load_model(ModelSpec(name, encoders=_encoders(embedding), config=config))
    vocabulary = model.vocabulary()
    typical = vocabulary.vectors.norm(dim=1).median()
    typer.echo(f"Nearest words of {name} (cosine); their typical norm is {typical:.3f}:")
    for i, found in enumerate(nearest_words(fitted(word, model).vectors, vocabulary)):
        typer.echo(f"  {i + 1}: " + ", ".join(f"{w} {cosine:.2f}" for w, cosine in found))


def retrieve(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of learn.")],
    folder: Annotated[Path, typer.Argument(help="A folder of images.")],
    top: Annotated[int, typer.Option(help="How many to print.", min=1)] = 10,
    count: Annotated[
        int, typer.Option(help="Pictures to draw, if CLIP cannot read the word.", min=1)
    ] = 16,
    seed: Seed = 0,
) -> None:
    """Rank a folder of images by how well they show the learned word, as CLIP sees it."""
    with errors(context):
        quiet()
        from evoken.images import counted
        from evoken.models.load import load_clip
        from evoken.textual_inversion.folder import LearnRun
        from evoken.textual_inversion.retrieval import query_of, rank, write_retrieval

        run = LearnRun.open(path)
        word, clip = run.word(), load_clip(run.clip)
        query, how = query_of(run, word, clip, count, seed)
        ranked = rank(clip, query, folder)
        file = write_retrieval(run, folder, how, ranked)
        typer.echo(f"{counted(len(ranked.images))}, by {how}:")
        for i, (image, similarity) in enumerate(ranked.images[:top]):
            typer.echo(f"{i + 1:5}  {similarity:.3f}  {_plain(image)}")
        if ranked.ignored:
            typer.echo(f"Skipped {counted(len(ranked.ignored))} that cannot be read.")
        typer.echo(f"The full list: {file}")
