"""The commands on words that are learned: convert, merge, inspect, retrieve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoken.cli.common import AsJson, Out, Seed, check_folder, errors
from evoken.cli.options import From, flags, takes
from evoken.cli.terminal import with_flags
from evoken.errors import EvokenError, SettingError, shown
from evoken.spec import ModelSpec

if TYPE_CHECKING:
    from evoken.words.layouts import Embedding

AnyWord = Annotated[
    str, typer.Argument(metavar="WORD", help="A run folder, any embedding file, or a hub id.")
]
LONG = 10  # times the typical length of the vocabulary's
ONLY_NAME = tuple(set(ModelSpec.__dataclass_fields__) - {"name", "config"})


@takes()
def convert(
    path: AnyWord,
    tool: Annotated[
        str,
        typer.Option("--to", help="diffusers, a1111, forge, comfyui, invokeai, or pt (for A1111)."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the file. \\[default: embeddings/WORD]", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a word as the file that another program loads."""
    out = Out(as_json)
    with errors():
        from evoken.words.convert import convert
        from evoken.words.files import read_embedding
        from evoken.words.header import stem_of
        from evoken.words.places import SUFFIXES

        check_folder(output, SUFFIXES)
        embedding = read_embedding(path)
        folder = output or Path("embeddings") / stem_of(embedding.placeholder)
        converted = convert(embedding, tool, folder)
        converted.write(force)
        out.say(f"{_short(embedding.placeholder)} for {embedding.serves}: {converted.path}")
        for line in (*converted.caution.splitlines(), *converted.usage.splitlines()):
            out.say(line)
        out.result(
            word=embedding.placeholder,
            file=converted.path,
            usage=converted.usage,
            caution=converted.caution,
        )


@takes()
def merge(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORD:WEIGHT...", help="Words, each with its weight or all without."
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The new word's .safetensors file.")],
    placeholder: Annotated[
        str, typer.Option("--name", help="Its placeholder. \\[default: <FILE>]", show_default=False)
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite another file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make one word of several: the weighted sum of their vectors."""
    out = Out(as_json)
    with errors():
        from evoken.run_folder import check_free
        from evoken.words.files import read_embedding
        from evoken.words.merge import about_merged, check_bases, merge, weighted
        from evoken.words.word import save_word, word_of

        if output.suffix != ".safetensors" or output.is_dir():
            raise SettingError(
                f"`output` must be a .safetensors file (got {shown(output)}).",
                "Choose a name such as both.safetensors.",
            )
        check_free(output, force)
        paths, weights = weighted(words)
        embeddings = [read_embedding(path) for path in paths]
        check_bases(embeddings)
        name = placeholder or f"<{output.stem}>"
        word = merge([word_of(e) for e in embeddings], weights, name)
        about = about_merged(embeddings, weights)
        save_word(output, word, about)
        out.say(f"{_short(name)} = {_short(about['merged'])}: {output}")
        if abs(sum(weights) - 1) > 0.01:
            out.say(
                f"Note: the weights sum to {sum(weights):g}, not to 1, and are taken as they are."
            )
        out.result(word=name, file=output, merged=about["merged"], weights=weights)


@takes(spec=From(ModelSpec, ONLY_NAME, {"name": "the word's own, if at hand"}))
def inspect(
    spec: dict[str, Any],
    path: AnyWord,
    as_json: AsJson = False,
) -> None:
    """Show what an embedding file is: its layout, its base, its norms, the words nearest to it."""
    out = Out(as_json)
    with errors():
        from evoken.words.files import read_embedding
        from evoken.words.layouts import LAYOUTS

        embedding = read_embedding(path)
        out.say(f"{'word':12} {_short(embedding.placeholder)}")
        out.say(f"{'layout':12} {LAYOUTS[embedding.layout]}")
        out.say(f"{'for':12} {embedding.serves}")
        norms = {name: vectors.norm(dim=1).tolist() for name, vectors in embedding.vectors.items()}
        for name, vectors in embedding.vectors.items():
            lengths = ", ".join(f"{norm:.3f}" for norm in norms[name])
            out.say(f"{name:12} {len(vectors)} x {vectors.shape[1]}, norm {lengths}")
        for key, value in sorted(embedding.about.items()):
            out.say(f"{_short(key):12} {_short(value)}")
        nearest = _nearest(embedding, path, spec, out)
        out.result(
            word=embedding.placeholder,
            layout=embedding.layout,
            base=embedding.purpose,
            encoders={name: list(v.shape) for name, v in embedding.vectors.items()},
            norms=norms,
            about=embedding.about,
            nearest=nearest,
        )


def _short(text: str) -> str:
    """Foreign text that is not endless."""
    return text if len(text) <= 100 else text[:100] + "..."


def _encoders(embedding: Embedding) -> str:
    """The word's text encoders, as a model's spec has them; "" where neither names nor widths in
    the file tell them.
    """
    named = embedding.layout == "encoders" or "architecture" in embedding.about
    return ",".join(embedding.vectors) if named or embedding.bases else ""


def _nearest(embedding: Embedding, path: str, spec: dict[str, Any], out: Out) -> list[Any] | None:
    """Show the words nearest to it: of the model that was asked for, or else of its own, where
    that comes with this program or is the one of its run, and nothing would have to be downloaded.
    """
    if "name" in spec:
        return _nearest_of(embedding, spec["name"], spec.get("config", ""), out)
    from evoken.models.embedded import EMBEDDED
    from evoken.textual_inversion.folder import LearnRun

    run = LearnRun.of_word(path)
    own = run.spec.name if run else embedding.about.get("model", "")
    if own in EMBEDDED or (run and os.path.isfile(f"{own}/model_index.json")):
        try:
            return _nearest_of(embedding, own, spec.get("config", ""), out)
        except EvokenError as error:
            out.say(f"Note: no nearest words: {with_flags(str(error), flags())}")
    else:
        out.say("Give --model to see the nearest words of its vocabulary.")
    return None


def _nearest_of(embedding: Embedding, name: str, config: str, out: Out) -> list[Any]:
    from evoken.models.load import load_model
    from evoken.words.word import fitted, nearest_words, word_of

    model = load_model(ModelSpec(name, encoders=_encoders(embedding), config=config))
    vectors, vocabulary = fitted(word_of(embedding), model).vectors, model.vocabulary()
    typical = vocabulary.vectors.norm(dim=1).median()
    found = nearest_words(vectors, vocabulary)
    out.say(f"Nearest words of {_short(name)} (cosine); their typical norm is {typical:.3f}:")
    for i, words in enumerate(found):
        out.say(f"  {i + 1}: " + ", ".join(f"{_short(w)} {cosine:.2f}" for w, cosine in words))
    if vectors.norm(dim=1).max() > LONG * typical:
        out.say("Long words are usual; to mix one with others, learn it with --fidelity 2.")
    return found


@takes()
def retrieve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of learn.")],
    folder: Annotated[Path, typer.Argument(help="A folder of images.")],
    top: Annotated[int, typer.Option(help="How many to print.", min=1)] = 10,
    count: Annotated[
        int, typer.Option(help="Pictures to draw, if CLIP cannot read the word.")
    ] = 16,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Rank a folder of images by how well they show the learned word, as CLIP sees it."""
    out = Out(as_json)
    with errors():
        from evoken.files import check_can_write
        from evoken.images import counted, notes_of_place
        from evoken.models.load import load_clip
        from evoken.models.sampling import check_sampling
        from evoken.textual_inversion.folder import LearnRun
        from evoken.textual_inversion.retrieval import (
            RETRIEVED,
            pictures_in,
            query_of,
            rank,
            write_retrieval,
        )

        check_sampling(count)
        run = LearnRun.open(path)
        check_can_write(run.path / RETRIEVED)
        pictures_in(folder)
        word, clip = run.word(), load_clip(run.clip)
        query, how = query_of(run, word, clip, count, seed)
        ranked = rank(clip, query, folder)
        file = write_retrieval(run, folder, how, ranked)
        out.say(f"{counted(len(ranked.images))}, by {how}:")
        for i, (image, similarity) in enumerate(ranked.images[:top]):
            out.say(f"{i + 1:5}  {similarity:.3f}  {_short(image)}")
        if ranked.ignored:
            out.say(f"Skipped {counted(len(ranked.ignored))} that cannot be read.")
        for note in notes_of_place(ranked.place):
            out.say(note)
        out.say(f"The full list: {file}")
        out.result(
            images=[{"file": name, "similarity": cosine} for name, cosine in ranked.images],
            ignored=list(ranked.ignored),
            file=file,
        )
