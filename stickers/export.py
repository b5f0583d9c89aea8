"""The trained models as they are shipped, and back again."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from evoken.files import write_json
from evoken.models.shared import load_in_float32, projected_text_encoder_of, text_encoder_of
from stickers import denoiser, flow, training

TRAINED = ("autoencoder", "clip", "judge", "denoiser", "flow")
COSTS = "training.json"
# Parts that a pipeline does not share with others.
OWN = {"scheduler", "unet", "transformer", "text_encoder_3", "tokenizer_3"}
CARDS = Path(__file__).parent / "cards"  # their numbers are put in by benchmarks.documents


def unpack(shipped: Path, folder: Path) -> None:
    """Lay the shipped models out as the stages leave them, so that the denoisers go on from there;
    does nothing where a checkpoint of the denoiser is.
    """
    checkpoint, models = folder / "denoiser.safetensors", folder / "models"
    if checkpoint.exists():
        return
    vae = AutoencoderKL.from_pretrained(shipped / "vae", dtype=torch.float32)
    vae.save_pretrained(models / "vae")
    shutil.copy(shipped / COSTS, folder / COSTS)
    unet = UNet2DConditionModel.from_pretrained(shipped / "stickers/unet", dtype=torch.float32)
    training.start_from(unet, checkpoint)
    transformer = SD3Transformer2DModel.from_pretrained(
        shipped / "stickers-flow/transformer", dtype=torch.float32
    )
    training.start_from(transformer, folder / "flow.safetensors")


def costs(folder: Path) -> dict[str, dict[str, float]]:
    """Samples and minutes of each stage, with those of the shipped models that it began from."""
    file = folder / COSTS
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    total = {}
    for stage in TRAINED:
        parts = [earlier.get(stage, {}), training.cost(folder, stage)]
        sums = {k: sum(p.get(k, 0) for p in parts) for k in ("samples", "minutes")}
        total[stage] = {k: round(v, 1) for k, v in sums.items()}
    return total


def export(folder: Path, target: Path) -> None:
    """Write the models as they are shipped: float16 safetensors, every part once."""
    models, partial = folder / "models", target.with_name("weights.partial")
    shutil.rmtree(partial, ignore_errors=True)
    whole = CLIPModel.from_pretrained(models / "clip").half()
    tokenizer = CLIPTokenizer.from_pretrained(models / "tokenizer")
    vae = AutoencoderKL.from_pretrained(models / "vae").half()
    vae.register_to_config(shift_factor=0.0)  # Stable Diffusion 3 adds it, None or not
    pipelines = (
        ("stickers", diffusion_pipeline(folder, whole, tokenizer, vae)),
        ("stickers-flow", flow_pipeline(folder, whole, tokenizer, vae)),
    )
    for name, pipeline in pipelines:
        pipeline.save_config(partial / name)
        for part in OWN & set(pipeline.components):
            getattr(pipeline, part).save_pretrained(partial / name / part)
    vae.save_pretrained(partial / "vae")
    whole.save_pretrained(partial / "clip")
    tokenizer.save_pretrained(partial / "clip")
    side = whole.config.vision_config.image_size
    size = {"height": side, "width": side}
    CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size=size, do_center_crop=True
    ).save_pretrained(partial / "clip")
    shutil.copytree(models / "judge", partial / "judge")
    load_in_float32(partial)
    load_in_float32(partial / "stickers-flow")
    for card in CARDS.glob("*.md"):
        shutil.copy(card, partial / card.stem / "README.md")
    write_json(partial / COSTS, costs(folder))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    size_mb = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
    print(f"exported {size_mb:.1f} MB to {target}", flush=True)


def diffusion_pipeline(
    folder: Path, whole: CLIPModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL
) -> StableDiffusionPipeline:
    """``stickers``, in half precision."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder_of(whole),
        tokenizer=tokenizer,
        unet=training.restore(denoiser.build(), folder / "denoiser.safetensors").half(),
        scheduler=denoiser.noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(
    folder: Path, whole: CLIPModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL
) -> StableDiffusion3Pipeline:
    """``stickers-flow``, in half precision."""
    words, empty = empty_t5(flow.build().config.joint_attention_dim)
    return StableDiffusion3Pipeline(
        transformer=training.restore(flow.build(), folder / "flow.safetensors").half(),
        scheduler=flow.noise_schedule(),
        vae=vae,
        text_encoder=projected_text_encoder_of(whole),
        tokenizer=tokenizer,
        text_encoder_2=projected_text_encoder_of(whole),
        tokenizer_2=tokenizer,
        text_encoder_3=empty.half(),
        tokenizer_3=words,
    )


def empty_t5(width: int) -> tuple[T5TokenizerFast, T5EncoderModel]:
    """A T5 that knows no word and answers with zeros: what the pipeline puts in place of a missing
    one. With it in the folder, ``from_pretrained`` needs no further arguments.
    """
    size = {"d_model": width, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1}
    encoder = T5EncoderModel(T5Config(vocab_size=3, **size))
    nn.init.zeros_(encoder.shared.weight)
    nn.init.zeros_(encoder.encoder.final_layer_norm.weight)
    return T5TokenizerFast(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], extra_ids=0
    ), encoder
