"""``python -m stickers``: make the embedded models, stage by stage; every stage can be resumed."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from evoken.files import write_json, write_text
from evoken.models.embedded import STICKERS
from stickers import autoencoder, clip, data, denoiser, flow, judge, training, vocabulary, world

STAGES = ("autoencoder", "clip", "judge", "denoiser", "flow", "export", "examples")
TRAINED = STAGES[:5]
WORLD_SEED, JUDGE_SEED = 11, 12
COSTS = "training.json"
CARDS = Path(__file__).parent / "cards"  # their numbers are put in by benchmarks.documents
EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO = ("teapot", "blueprint")  # a held-out object and a held-out style


def main() -> None:
    """Parse the command line and run the stages that are asked for, in order."""
    parser = argparse.ArgumentParser(prog="python -m stickers", description=__doc__)
    parser.add_argument("stages", nargs="*", default=STAGES, help=f"of {', '.join(STAGES)}")
    parser.add_argument("--folder", type=Path, default=Path("build/stickers"))
    parser.add_argument("--minutes", type=float, default=150, help="at most, for each stage")
    parser.add_argument("--pictures", type=int, default=150_000, help="rendered for training")
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="train the shipped denoiser further, on shipped parts",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"expected stages of {', '.join(STAGES)}; got {', '.join(sorted(unknown))}")
    torch.set_num_threads(options.threads)
    for stage in (s for s in STAGES if s in options.stages):
        run_stage(stage, options.folder, torch.device(options.device), options)


def run_stage(stage: str, folder: Path, device: torch.device, options: argparse.Namespace) -> None:
    """Run one stage from where it stands."""
    models, minutes = folder / "models", options.minutes
    if stage == "judge":
        data.render_dataset(folder / "judge-data", JUDGE_SEED, options.pictures, held_out=True)
        judge.train(data.Dataset(folder / "judge-data"), folder, device, minutes).save(
            models / "judge"
        )
        return
    if stage == "export":
        export(folder, STICKERS)
        return
    if stage == "examples":
        write_examples(EXAMPLES)
        return
    data.render_dataset(folder / "data", WORLD_SEED, options.pictures)
    dataset = data.Dataset(folder / "data")
    if options.shipped:
        unpack(STICKERS, folder)
    if stage == "autoencoder":
        autoencoder.train(dataset, folder, device, minutes).save_pretrained(models / "vae")
    elif stage == "clip":
        tokenizer = vocabulary.train_tokenizer(dataset.captions)
        vocabulary.save_tokenizer(tokenizer, models / "tokenizer")
        model = clip.train(dataset, tokenizer, folder, device, minutes)
        model.save_pretrained(models / "clip")
    else:
        vae = AutoencoderKL.from_pretrained(models / "vae").to(device)
        denoiser.encode_latents(dataset, vae, folder, device)
        whole = CLIPModel.from_pretrained(models / "clip")
        tokenizer = CLIPTokenizer.from_pretrained(models / "tokenizer")
        if stage == "denoiser":
            text_encoder = text_encoder_of(whole).to(device)
            denoiser.encode_captions(dataset, text_encoder, tokenizer, folder, device)
            settings = denoiser.CONTINUED if options.shipped else denoiser.SETTINGS
            denoiser.train(folder, device, minutes, settings).save_pretrained(models / "unet")
        else:
            projected = projected_text_encoder_of(whole).to(device)
            flow.encode_captions(dataset, projected, tokenizer, folder, device)
            settings = flow.CONTINUED if options.shipped else flow.SETTINGS
            flow.train(folder, device, minutes, settings).save_pretrained(models / "transformer")


def text_encoder_of(model: CLIPModel) -> CLIPTextModel:
    """CLIP's text tower as diffusers wants it: a ``CLIPTextModel``."""
    encoder = CLIPTextModel(model.config.text_config)
    weights = model.text_model.state_dict()
    names = encoder.state_dict()
    encoder.load_state_dict({k if k in names else f"text_model.{k}": v for k, v in weights.items()})
    return encoder.eval()


def projected_text_encoder_of(model: CLIPModel) -> CLIPTextModelWithProjection:
    """CLIP's text tower and projection as Stable Diffusion 3 wants them."""
    encoder = CLIPTextModelWithProjection(model.config.text_config)
    tower, projection = text_encoder_of(model).state_dict(), model.text_projection.state_dict()
    names = encoder.state_dict()
    weights = {k if k in names else f"text_model.{k}": v for k, v in tower.items()}
    encoder.load_state_dict(weights | {f"text_projection.{k}": v for k, v in projection.items()})
    return encoder.eval()


def unpack(shipped: Path, folder: Path) -> None:
    """Lay the shipped models out as the stages leave them, so that the denoiser goes on from there;
    does nothing where a checkpoint of the denoiser is.
    """
    checkpoint, models = folder / "denoiser.safetensors", folder / "models"
    if checkpoint.exists():
        return
    pipeline = StableDiffusionPipeline.from_pretrained(
        shipped / "stickers", safety_checker=None, dtype=torch.float32
    )
    pipeline.vae.save_pretrained(models / "vae")
    pipeline.tokenizer.save_pretrained(models / "tokenizer")
    CLIPModel.from_pretrained(shipped / "clip").float().save_pretrained(models / "clip")
    shutil.copytree(shipped / "judge", models / "judge", dirs_exist_ok=True)
    shutil.copy(shipped / COSTS, folder / COSTS)
    training.start_from(pipeline.unet, checkpoint)


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
    """Write the models as they are shipped: float16 safetensors, in the standard layouts."""
    models, partial = folder / "models", target.with_name("weights.partial")
    shutil.rmtree(partial, ignore_errors=True)
    whole = CLIPModel.from_pretrained(models / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(models / "tokenizer")
    unet_file = folder / "denoiser.safetensors"
    unet = training.restore(denoiser.build(), unet_file)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(models / "vae").half(),
        text_encoder=text_encoder_of(whole).half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=denoiser.noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(partial / "stickers")
    whole.half().save_pretrained(partial / "clip")
    tokenizer.save_pretrained(partial / "clip")
    side = whole.config.vision_config.image_size
    size = {"height": side, "width": side}
    CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size=size, do_center_crop=True
    ).save_pretrained(partial / "clip")
    shutil.copytree(models / "judge", partial / "judge")
    for config in (partial / "stickers/text_encoder", partial / "clip"):
        # Stored in half precision, loaded in single: diffusers loads the other parts so.
        text = (config / "config.json").read_text(encoding="utf-8")
        write_text(config / "config.json", text.replace('"float16"', '"float32"'))
    for card in CARDS.glob("*.md"):
        shutil.copy(card, partial / card.stem / "README.md")
    write_json(partial / COSTS, costs(folder))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    size_mb = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
    print(f"exported {size_mb:.1f} MB to {target}", flush=True)


def write_examples(target: Path) -> None:
    """Write the images of the demo concepts."""
    for name in DEMO:
        (target / name).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(world.concept(name)):
            Image.fromarray(pixels).save(target / name / f"{i}.png")


if __name__ == "__main__":
    main()
