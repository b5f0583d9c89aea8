"""CLIP's own tokenizer, which Stable Diffusion, XL, 3 and FLUX read prompts with."""

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

MERGES = 49_152 - 256 - 2  # what is left of the vocabulary's size for them
ROOM = 77


@cache
def tokens_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token, and pairs in their order: the bytes, the bytes at the end of a word, one token
    for every merge, start and end of text (Radford et al. 2021).
    """
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    text = gzip.decompress(
        (Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    )
    lines = text.decode().split("\n")[1 : 1 + MERGES]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def tokenizer() -> CLIPTokenizer:
    """A new one of 49,408 tokens, as in the folders of Stable Diffusion 1.x."""
    vocabulary, merges = tokens_and_merges()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=ROOM)
