"""``python -m stickers``: make the embedded models, stage by stage; every stage can be resumed."""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from evoken.models.embedded import STICKERS
from evoken.models.shared import projected_text_encoder_of, text_encoder_of
from stickers import autoencoder, clip, data, denoiser, flow, judge, vocabulary, world
from stickers.export import TRAINED, export, unpack
from stickers.latents import encode_latents

STAGES = (*TRAINED, "export", "examples")
WORLD_SEED, JUDGE_SEED = 11, 12
EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO = ("otter", "blueprint")  # a held-out object and a held-out style


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
        help="train the shipped denoisers further, on shipped parts",
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
        encode_latents(dataset, vae, folder, device)
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


def write_examples(target: Path) -> None:
    """Write the images of the demo concepts, and what those of a style show."""
    for name in DEMO:
        (target / name).mkdir(parents=True, exist_ok=True)
        pictures = zip(world.concept(name), world.concept_captions(name), strict=True)
        for i, (pixels, caption) in enumerate(pictures):
            Image.fromarray(pixels).save(target / name / f"{i}.png")
            if caption:
                (target / name / f"{i}.txt").write_text(f"{caption}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
