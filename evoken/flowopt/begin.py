"""The beginning of a run, which its folder keeps: the inversion and the masks of its pictures."""

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from evoken.annotations import LEAST_WHITE
from evoken.errors import shown
from evoken.files import write_bytes
from evoken.flowopt.edit import Editor
from evoken.flowopt.folder import FlowOptRun, contents
from evoken.flowopt.originals import MASKS, Originals, mask_path
from evoken.flowopt.record import listed
from evoken.flowopt.usage import diffusers_code
from evoken.models.provenance import file_hash, public_name
from evoken.records import damaged
from evoken.run_folder import as_written, input_path

WAY = "states/inversion.safetensors"
WIDEST = 1.15  # spread of the noise of a picture that a model might have drawn, whose own is 1


def begin(run: FlowOptRun, editor: Editor) -> None:
    """Invert the pictures and find their masks, and keep what later iterates need."""
    way, settings = editor.inverted(), run.settings
    if settings.deepest == settings.steps:  # else it is only partly noise
        run.beginning["spread"] = listed(editor.spread())
    if run.config["command"] == "edit":
        write_bytes(run.path / WAY, contents({"path": way.path}))
        originals = run.originals = _originals(run, editor)
        count = len(editor.task.images)
        given = [i for i in range(count) if _name(run, i) in run.config.get("files", {})]
        if not settings.everywhere and len(given) < count:
            originals.keep_masks(editor.find_masks(), given)
        editor.masks = originals.masks()
        kept = [run.path / WAY, *sorted((run.path / MASKS).glob("*.png"))]
        run.beginning["kept"] = {f.relative_to(run.path).as_posix(): file_hash(f) for f in kept}
        run.write_noise(way.start)


def restore(run: FlowOptRun, editor: Editor) -> None:
    """Give the editor of a run that has begun what was kept; raises ``RunError`` if that is not
    there.
    """
    for name, written in run.records()[0].get("kept", {}).items():
        with as_written(run.path / name):
            if file_hash(run.path / name) != written:
                raise damaged(run.path / name, "it is not as it was written")
    if (run.path / WAY).is_file():
        with as_written(run.path / WAY):
            editor.follow(load_file(run.path / WAY)["path"])
        run.originals = _originals(run, editor)
        editor.masks = run.originals.masks()
        run.write_noise(editor.inverted().start)


def _originals(run: FlowOptRun, editor: Editor) -> Originals:
    frames = run.frames(editor.task.images.shape[-1])
    return Originals(run.path, frames, masked=not run.settings.everywhere)


def _name(run: FlowOptRun, number: int) -> str:
    """Of a mask's file, in the folder."""
    return mask_path(run.path, number).relative_to(run.path).as_posix()


def spreads(run: FlowOptRun) -> list[float | None]:
    """Of the noise of each picture; empty of a run that has no record yet, or does not say."""
    records = run.records()
    found = run.beginning or (records[0] if records else {})
    return list(found.get("spread") or [])


def may_change(run: FlowOptRun) -> list[float]:
    """How much of each picture is in its mask, from 0 to 1; empty where there are none."""
    return [float(levels.mean()) / 255 for levels in _masks(run)]


def _masks(run: FlowOptRun) -> list[np.ndarray]:
    """In levels of 255, height x width; empty where there are none, and before they are found."""
    count = len(run.config["pictures"])
    if not all(mask_path(run.path, i).is_file() for i in range(count)):
        return []
    return [np.asarray(run.mask(i)) for i in range(count)]


def notes_on(run: FlowOptRun) -> list[str]:
    """What is to be known of how a run began: of its noise, its masks and what is measured."""
    return [*notes_on_spread(run), *_notes_on_masks(run), *_notes_on_parts(run)]


def _notes_on_parts(run: FlowOptRun) -> list[str]:
    """That numbers are of what the model sees, where that is less than the pictures."""
    if all(frame.box == (0, 0, *frame.size) for frame in run.frames(1)):
        return []
    return ["Note: RMSE, PSNR, SSIM and CLIP are of the part of a picture that the model sees."]


def _notes_on_masks(run: FlowOptRun) -> list[str]:
    """Of pictures that hardly change, one each: so does what no mask reaches white in."""
    names = [picture["name"] for picture in run.config["pictures"]]
    dark = [n for n, m in zip(names, _masks(run), strict=False) if m.max() < LEAST_WHITE]
    return [
        f"Note: hardly anything of {shown(name)} may change, since the two prompts ask for nearly "
        "the same. Say more of what is to be different, or give a mask."
        for name in dict.fromkeys(dark)
    ]


def notes_on_spread(run: FlowOptRun) -> list[str]:
    """Of pictures that lie outside what the model draws, one each."""
    names = [picture["name"] for picture in run.config["pictures"]]
    found = {n: s for n, s in zip(names, spreads(run), strict=False) if s and s > WIDEST}
    model = shown(public_name(run.spec.name))
    return [
        f"Note: {shown(name)} is unlike what {model} draws in so many steps: its noise has a "
        f"spread of {s:.2f}, where 1 is usual. From more than {WIDEST}, edits come out worse."
        for name, s in found.items()
    ]


def code_back(run: FlowOptRun) -> str:
    """The lines of diffusers that give the first picture back; "" where there are none."""
    if "noise" not in run.config:
        return ""
    file = input_path(run.path, 0)
    with as_written(file), Image.open(file) as seen:
        whole = (0, 0, seen.width, seen.height)
    frames = run.frames(whole[2])
    crop = frames[0].place if frames and frames[0].place != whole else None
    return diffusers_code(run.config["noise"], run.spec.name, crop)
