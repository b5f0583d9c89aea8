"""The tokenizers of language models, with few words. Their chat templates are what those of the
models themselves come to for a single message; their words are those of the pipelines' instructions
and of a few sentences.
"""

import inspect
import json
from typing import Any

from diffusers import SanaPipeline
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import GemmaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from tests.tiny import SENTENCES

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
ROOM = 112  # tokens of a prompt and what stands around it

# Qwen/Qwen3-4B, tokenizer_config.json; without tools, earlier turns and thoughts.
QWEN_CHAT = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
# mistralai/Mistral-Small-3.2-24B-Instruct-2506, chat_template.jinja; without tools and answers.
MISTRAL_CHAT = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- '[SYSTEM_PROMPT]' }}
    {%- else %}
        {{- '[INST]' }}
    {%- endif %}
    {%- for block in message['content'] %}
        {%- if block['type'] == 'text' %}
            {{- block['text'] }}
        {%- endif %}
    {%- endfor %}
    {%- if message['role'] == 'system' %}
        {{- '[/SYSTEM_PROMPT]' }}
    {%- else %}
        {{- '[/INST]' }}
    {%- endif %}
{%- endfor %}"""
MISTRAL_SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *("[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>"),
)
INSTRUCTIONS = (
    "user\nassistant\nsystem\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:",
    SYSTEM_MESSAGE,
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> ",
    *inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default,
)


Merges = list[tuple[str, str]]


def _bpe(normalizer: Any, splitting: Any, alphabet: list[str]) -> tuple[dict[str, int], Merges]:
    """Vocabulary and merges."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = splitting
    if normalizer is not None:
        bpe.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=3000, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([*SENTENCES, *INSTRUCTIONS, *INSTRUCTIONS], trainer)
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def qwen_tokenizer(chat: str = QWEN_CHAT) -> Qwen2Tokenizer:
    """Qwen's, with the end of text that its instruction models have."""
    own = Qwen2Tokenizer().backend_tokenizer
    vocabulary, merges = _bpe(own.normalizer, own.pre_tokenizer, BYTES)
    words = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        chat_template=chat,
        model_max_length=ROOM,
    )
    words.add_tokens([AddedToken(token, special=True) for token in QWEN_SPECIAL])
    return words


def gemma_tokenizer() -> GemmaTokenizer:
    """Gemma's, whose tokens are parts of words and not of sentences."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    words = pre_tokenizers.Split("\u2581", "merged_with_next")
    vocabulary, merges = _bpe(GemmaTokenizer().backend_tokenizer.normalizer, words, [])
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *vocabulary]))}
    return GemmaTokenizer(
        vocab=vocabulary, merges=merges, add_bos_token=True, model_max_length=ROOM
    )


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """Mistral's, which fills prompts up from the left."""
    splitting = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary, merges = _bpe(None, splitting, BYTES)
    whole = Tokenizer(models.BPE(vocabulary, merges))
    whole.pre_tokenizer = splitting
    words = PreTrainedTokenizerFast(
        tokenizer_object=whole,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        chat_template=MISTRAL_CHAT,
        model_max_length=ROOM,
    )
    words.add_tokens([AddedToken(token, special=True) for token in MISTRAL_SPECIAL])
    return words
