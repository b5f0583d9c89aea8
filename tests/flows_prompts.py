"""Small flow pipelines that take prompts and no embeddings of them. See ``tests.flows``."""

from collections.abc import Callable
from unittest.mock import MagicMock

import torch
from diffusers import (
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    OmniGenPipeline,
    OmniGenTransformer2DModel,
)
from transformers import (
    CLIPTokenizer,
    Qwen3VLConfig,
    Qwen3VLModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tests import tiny
from tests.flows import PACKED, PLAIN, Case, case, random, shifting
from tests.tiny_language import flux_2_autoencoder

PROMPTS = ["a photo of a cat", "a photo of a dog"]
LAYERS = 13  # of the encoder, which Ideogram looks at


def language_model(words: CLIPTokenizer) -> SmolLM3ForCausalLM:
    config = SmolLM3Config(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return SmolLM3ForCausalLM(config).eval()


def long_cat() -> Case:
    torch.manual_seed(40)
    transformer = LongCatImageTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    words = tiny.tokenizer()
    words.model_max_length = 512
    encoder = language_model(words)
    pipe = LongCatImagePipeline(shifting(), tiny.autoencoder(), encoder, words, None, transformer)
    pipe.tokenizer_max_length = 16
    return case(pipe, PACKED, guidance_scale=1.0, enable_prompt_rewrite=False, prompt=PROMPTS)


def bria_fibo() -> Case:
    torch.manual_seed(41)
    transformer = BriaFiboTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,  # of two layers
        axes_dims_rope=(4, 4, 8),
        text_encoder_dim=8,
    ).eval()
    words = tiny.tokenizer()
    pipe = BriaFiboPipeline(transformer, shifting(), None, language_model(words), words)
    asked = {"prompt": PROMPTS, "guidance_scale": 1.0, "height": 64, "width": 64}
    return Case(pipe, random(2, *PACKED, seed=2), asked)


def vision_language_model(words: CLIPTokenizer) -> Qwen3VLModel:
    """With as many layers as the large one has, from which Ideogram picks."""
    text = {
        "vocab_size": len(words),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 36,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_heads": 1,
        "out_hidden_size": 8,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [],
    }
    return Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision)).eval()


def ideogram_4() -> Case:
    """Without text there is a denoiser of its own, which every step calls as well."""
    torch.manual_seed(42)
    with_text, without = (
        Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=8 * LAYERS,
            mrope_section=(2, 1, 1),
        ).eval()
        for _ in range(2)
    )
    words = tiny.tokenizer()
    words.chat_template = "{{ messages[0].content[0].text }}"
    encoder = vision_language_model(words)
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipe = Ideogram4Pipeline(scheduler, flux_2_autoencoder(), encoder, words, with_text, without)
    # Its guidance is a list for 48 steps, unless it is one number.
    guidance = {"guidance_scale": 2.0, "guidance_schedule": None}
    made = case(pipe, PACKED, max_sequence_length=8, prompt=PROMPTS, **guidance)
    return Case(pipe, made.latents, made.conditioning, calls=2)


def omni_gen_class() -> type[OmniGenPipeline]:
    """The pipeline wants torchvision for pictures in prompts, of which there are none
    here; without it, it does not know its own reader of prompts.
    """
    from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen

    for module in (pipeline_omnigen, processor_omnigen):
        vars(module).setdefault("transforms", MagicMock())
        vars(module).setdefault(
            "OmniGenMultiModalProcessor", processor_omnigen.OmniGenMultiModalProcessor
        )
    return pipeline_omnigen.OmniGenPipeline


def omni_gen() -> Case:
    """Its scheduler counts levels upwards, and guidance is never left out."""
    torch.manual_seed(43)
    words = tiny.tokenizer()
    words.model_max_length = 512
    transformer = OmniGenTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        num_layers=1,
        pad_token_id=words.pad_token_id,
        vocab_size=len(words),
        rope_scaling={"short_factor": [1.0] * 4, "long_factor": [1.0] * 4},
        pos_embed_max_size=8,
        time_step_dim=16,
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1)
    pipe = omni_gen_class()(transformer, scheduler, tiny.autoencoder(), words)
    # Its pictures have eight times the side of latents.
    asked = {"prompt": PROMPTS, "guidance_scale": 2.0, "height": 64, "width": 64}
    return Case(pipe, random(2, *PLAIN, seed=2), asked, calls=2)


FAMILIES: dict[str, Callable[[], Case]] = {
    LongCatImagePipeline.__name__: long_cat,
    BriaFiboPipeline.__name__: bria_fibo,
    Ideogram4Pipeline.__name__: ideogram_4,
    OmniGenPipeline.__name__: omni_gen,
}
