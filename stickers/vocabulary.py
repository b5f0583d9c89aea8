"""The tokenizer of the sticker models: CLIP's byte-level BPE, trained on the captions."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_TOKENS = 4096
MAX_LENGTH = 32  # longest prompt in tokens, start and end included
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """BPE merges from captions, laid out as OpenAI's vocabulary is: the 256 bytes, the 256 bytes at
    the end of a word, one token per merge, start and end of text. The same captions give the same
    merges.
    """
    # Any CLIPTokenizer carries the right normalizer and splitting; only its BPE model is replaced.
    reference = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = reference.normalizer or normalizers.Lowercase()
    bpe.pre_tokenizer = reference.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    endings = [letter + "</w>" for letter in alphabet]
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_TOKENS - 2,
        min_frequency=2,
        initial_alphabet=alphabet,
        # Else the trainer numbers them in an order of chance, and numbers decide between pairs
        # that are equally frequent.
        special_tokens=endings,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + endings
    tokens += ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer as diffusers pipelines expect it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
