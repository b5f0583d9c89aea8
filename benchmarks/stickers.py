"""The embedded sticker models on fresh renders: the ``stickers.*`` figures, and sheets to look at.

    python -m benchmarks.stickers [--pictures-per-object 4] [--only-flow]

Also runs benchmarks.unseen, whose results are kept; what it needs is said there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch

from benchmarks import figures, unseen
from evoken.images import grid, to_pictures
from evoken.models.clip import Clip
from evoken.models.embedded import STICKERS
from evoken.models.families.latent import LatentModel
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.judge import Judge
from evoken.models.load import load_clip, load_judge, load_model
from evoken.seeds import derive
from evoken.spec import ModelSpec
from stickers import backgrounds, styles, world
from stickers.autoencoder import to_images
from stickers.captions import with_article
from stickers.glyphs import load_objects

SHEETS = Path(__file__).parent.parent / "docs" / "sheets"
FRESH = 9001  # a world seed that no training used
GUIDANCES = (2.0, 3.0, 4.0, 6.0)


def fresh(seed: int, count: int, **options: object) -> list[world.Sample]:
    """Samples of a world that no model was trained on."""
    return [world.sample(seed, i, **options) for i in range(count)]  # type: ignore[arg-type]


def as_images(samples: list[world.Sample]) -> torch.Tensor:
    return to_images(np.stack([s.pixels for s in samples]), torch.device("cpu"))


def autoencoder_psnr(model: StableDiffusion, count: int = 400) -> float:
    """Mean PSNR in dB over pictures of held-out objects, pixel range 0..255."""
    images = as_images(fresh(FRESH, count, things=world.objects(held_out=True)))
    decoded = model.decode(model.encode(images))
    error = (decoded - images).square().mean((1, 2, 3))
    save_sheet("autoencoder", torch.stack([images[:16], decoded[:16]], 1).flatten(0, 1), 8)
    return float((10 * torch.log10(4 / error)).mean())


@torch.no_grad()
def sampled_loss_ratio(model: StableDiffusion, count: int = 256) -> float:
    """Eq. 1 with latents that are sampled, as public training scripts do, over Eq. 1 with their
    means; the same noise for both, and pictures of trained objects with their captions.
    """
    samples = fresh(FRESH, count)
    hidden = model.condition([s.caption for s in samples])
    posterior = model.vae.encode(as_images(samples)).latent_dist
    generator = torch.Generator().manual_seed(FRESH)
    noise = torch.randn(posterior.mean.shape, generator=generator)
    t = torch.linspace(0, 1, count)
    losses = []
    for latents in (posterior.sample(generator), posterior.mode()):
        noisy = model.process.add_noise(latents * model.vae.config.scaling_factor, noise, t)
        losses.append(float((model.denoise(noisy, t, hidden) - noise).square().mean()))
    return losses[0] / losses[1]


def clip_recall(clip: Clip, count: int = 1000, among: int = 100) -> float:
    """R@1 of captions for pictures among 100, over ten hundreds."""
    samples = fresh(FRESH + 1, count)
    pictures = clip.image_features(as_images(samples))
    texts = clip.text_features([s.caption for s in samples])
    hits = [
        (pictures[i : i + among] @ texts[i : i + among].T).argmax(1) == torch.arange(among)
        for i in range(0, count, among)
    ]
    return float(torch.cat(hits).float().mean())


def judge_real_top1(judge: Judge, count: int = 3000) -> float:
    """Top-1 on renders of single things, held-out objects and styles among them."""
    drawn = fresh(FRESH + 2, count, things=load_objects(), style_names=tuple(styles.STYLES))
    samples = [s for s in drawn if len(s.spec.things) == 1]
    answers = judge.answers(as_images(samples))
    return float(
        np.mean([a == s.spec.things[0].noun for a, s in zip(answers, samples, strict=True)])
    )


def prompts(count: int, seed: int) -> list[tuple[str, str, str]]:
    """(prompt, noun, background) for each trained object ``count`` times, backgrounds drawn."""
    rng = np.random.default_rng(seed)
    places = (*backgrounds.PLAIN, *backgrounds.SCENES)
    made = []
    for thing in world.objects(held_out=False):
        for place in rng.choice(places, count, replace=False):
            where = f"on {with_article(place)}" if place in backgrounds.PLAIN else place
            made.append((f"a photo of {with_article(thing.noun)} {where}", thing.noun, str(place)))
    return made


def generated(
    model: LatentModel,
    judge: Judge,
    asked: list[tuple[str, str, str]],
    guidance: float,
    seed: int,
) -> tuple[float, float, torch.Tensor]:
    """Shares of generated pictures with the right object and the right background."""
    seeds = [derive(seed, i, "generated") for i in range(len(asked))]
    parts = [
        model.generate(
            model.condition([p for p, _, _ in asked[i : i + 32]]),
            seeds[i : i + 32],
            guidance=guidance,
        )
        for i in range(0, len(asked), 32)
    ]
    images = torch.cat(parts)
    nouns, places = judge.answers(images), judge.answers(images, "background")
    top1 = np.mean([a == noun for a, (_, noun, _) in zip(nouns, asked, strict=True)])
    scene = np.mean([a == place for a, (_, _, place) in zip(places, asked, strict=True)])
    return float(top1), float(scene), images


def seconds_for_four(model: StableDiffusion, repeats: int = 5) -> dict[str, float]:
    """Four pictures, 25 steps, with guidance, prompt and decoding included."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        model.generate(model.condition(["a photo of a cat on the beach"] * 4), range(4))
        times.append(time.perf_counter() - started)
    return figures.spread(times)


def save_sheet(name: str, images: torch.Tensor, columns: int, scale: int = 2) -> None:
    SHEETS.mkdir(parents=True, exist_ok=True)
    sheet = grid(to_pictures(images), columns, scale=scale)
    sheet.save(SHEETS / f"{name}.webp", quality=90, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures-per-object", type=int, default=4)
    parser.add_argument("--only-flow", action="store_true", help="the flow model's figures alone")
    options = parser.parse_args()
    if options.only_flow:
        asked = prompts(options.pictures_per_object, FRESH + 1)
        figures.update(flow_figures(load_judge(), asked))
        return
    model = cast(StableDiffusion, load_model(ModelSpec()))
    clip, judge = load_clip(), load_judge()
    things = load_objects()
    found: dict[str, object] = {
        "stickers.nouns": len(things),
        "stickers.drawings": len({thing.glyph for thing in things}),
        "stickers.psnr_db": round(autoencoder_psnr(model), 2),
        "stickers.sampled_loss_ratio": round(sampled_loss_ratio(model), 4),
        "stickers.clip_recall_at_1": round(clip_recall(clip), 4),
        "stickers.judge_real_top1": round(judge_real_top1(judge), 4),
        "stickers.seconds_four_pictures": seconds_for_four(model),
        "stickers.megabytes": round(
            sum(f.stat().st_size for f in STICKERS.rglob("*") if f.is_file()) / 1e6, 1
        ),
    }
    costs = json.loads((STICKERS / "training.json").read_text(encoding="utf-8"))
    found |= {f"stickers.{s}.{k}": round(v) for s, c in costs.items() for k, v in c.items()}
    # The guidance is chosen on one picture per object, and measured on others.
    trial = prompts(1, FRESH)
    scores = {g: generated(model, judge, trial, g, FRESH)[0] for g in GUIDANCES}
    best = max(scores, key=lambda g: scores[g])
    print("judge top-1 by guidance:", {g: round(s, 3) for g, s in scores.items()})
    asked = prompts(options.pictures_per_object, FRESH + 1)
    top1, scene, images = generated(model, judge, asked, best, FRESH + 1)
    found |= {
        "stickers.guidance": best,
        "stickers.judge_generated_top1": round(top1, 4),
        "stickers.scene_accuracy": round(scene, 4),
    }
    save_sheet("objects", images[:: options.pictures_per_object], 18, scale=1)
    styled = [
        f"a {s} picture of a {n}" for s in styles.TRAINED for n in ("cat", "house", "rose", "pear")
    ]
    save_sheet(
        "styles", model.generate(model.condition(styled), range(len(styled)), guidance=best), 12
    )
    save_sheet("world", as_images(fresh(FRESH + 3, 54)), 18, scale=1)
    figures.update(found | flow_figures(judge, asked) | unseen.found())


def flow_figures(
    judge: Judge, asked: list[tuple[str, str, str]], guidance: float = 5.0
) -> dict[str, object]:
    """What ``stickers-flow`` draws of the same prompts, and a sheet of it."""
    model = load_model(ModelSpec("stickers-flow"))
    top1, scene, images = generated(model, judge, asked, guidance, FRESH + 1)
    save_sheet("flow-objects", images[:: max(1, len(asked) // 107)], 18, scale=1)
    return {
        "flowopt.judge_generated_top1": round(top1, 4),
        "flowopt.scene_accuracy": round(scene, 4),
        "flowopt.guidance": guidance,
    }


if __name__ == "__main__":
    main()
