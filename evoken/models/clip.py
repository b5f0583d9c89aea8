"""CLIP (Radford et al. 2021): features of images and texts, for initialisation and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from evoken.arrays import Images
from evoken.errors import EvokenError, ModelError, reason_of, shown
from evoken.models.batches import in_batches
from evoken.models.card import on_card
from evoken.models.embedded import EMBEDDED
from evoken.models.folder import check_clip_folder, check_holds_all, check_index
from evoken.models.hub import reached
from evoken.models.image_encoder import CLIP, pixels_of
from evoken.models.provenance import is_hub_id, repository
from evoken.models.sound import check_finite, check_text

if TYPE_CHECKING:
    from evoken.libraries import transformers

MEAN, STD = CLIP  # of pixels, which all CLIP models share
BATCH = 256


def check_name(name: str) -> None:
    """Raise ``ModelError`` unless a CLIP model can be there, as can be told before it is loaded."""
    if name not in EMBEDDED and not Path(name).exists() and not is_hub_id(name):
        raise ModelError(
            f"`clip` must be {EMBEDDED[0]}, a folder or a hub id (got {shown(name, 200)}).",
            "Check the spelling.",
        )


def _checked(name: str) -> tuple[str, str | None]:
    """Where a CLIP model is, a folder or a hub id, and its revision there, once its files are
    known to be whole, and to name safetensors alone.
    """
    check_name(name)
    folder = Path(name)
    if not folder.exists():
        kept = reached(name, "config.json")
        if kept is None:
            from evoken.libraries import transformers

            index = transformers.utils.cached_file(
                repository(name)[0],
                "model.safetensors.index.json",
                revision=repository(name)[1] or "main",
                _raise_exceptions_for_missing_entries=False,
            )
            if index:
                check_index(Path(index))
            return repository(name)
        folder = kept.parent
    check_clip_folder(folder)
    return str(folder), None


class Clip:
    """A frozen CLIP; all features have unit length and are on the processor, wherever it is."""

    def __init__(
        self,
        model: transformers.CLIPModel,
        tokenizer: transformers.CLIPTokenizer,
        device: str = "cpu",
        offload: bool = False,
    ) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.device, self._offload = torch.device(device), offload
        self.model.to("cpu" if offload else self.device)

    @classmethod
    def load(cls, name: str, device: str = "cpu", offload: bool = False) -> Clip:
        """From a folder or hub id; raises ``ModelError`` if it cannot be loaded.

        Args:
            offload: whether it is on the device only while it computes there.
        """
        try:
            where, revision = _checked(name)
            from evoken.libraries import transformers

            model = transformers.CLIPModel.from_pretrained(
                where, revision=revision, use_safetensors=True
            )
            if Path(where).is_dir():
                check_holds_all(Path(where), model)
            tokenizer = transformers.CLIPTokenizer.from_pretrained(where, revision=revision)
            check_text(model.text_model, tokenizer, f"tokenizer of {shown(name, 200)}")
            check_finite(model, f"CLIP model {shown(name, 200)}")
            return cls(model.float(), tokenizer, device, offload)
        except EvokenError:
            raise
        except Exception as error:  # of what kind depends on where the libraries stumble
            raise ModelError(
                f"could not load a CLIP model from {shown(name, 200)}: {reason_of(error)}.",
                "Give the folder or hub id of one with `clip`.",
            ) from error

    @property
    def logit_scale(self) -> float:
        """The inverse temperature that CLIP was trained with."""
        return float(self.model.logit_scale.exp())

    @property
    def side(self) -> int:
        """Of the pictures that it looks at, in pixels."""
        return int(self.model.config.vision_config.image_size)

    def _in_batches(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        with on_card(self.model, self.device, self._offload):
            return in_batches(function, BATCH, *rows)

    @torch.no_grad()
    def image_features(self, images: Images) -> Tensor:
        """N x width, of images of any size in [-1, 1]."""
        return self._in_batches(self._image_part, images)

    def _image_part(self, images: Images) -> Tensor:
        pooled = self.model.vision_model(pixel_values=self._pixels(images)).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1).cpu()

    def _pixels(self, images: Images) -> Tensor:
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        return pixels_of(images, self.side, mean, std).to(self.device)

    @property
    def across(self) -> int:
        """Patches side by side in a picture, and one above the other."""
        return self.side // int(self.model.config.vision_config.patch_size)

    @torch.no_grad()
    def patch_features(self, images: Images) -> Tensor:
        """N x row x column x width of the last layer, of unit length: of the image's patches."""
        return self._in_batches(self._patch_part, images)

    def _patch_part(self, images: Images) -> Tensor:
        hidden = self.model.vision_model(pixel_values=self._pixels(images)).last_hidden_state
        patches = hidden[:, 1:].unflatten(1, (self.across, self.across))
        return F.normalize(patches, dim=-1).cpu()

    @torch.no_grad()
    def partial_features(self, images: Images, seen: Tensor) -> Tensor:
        """N x width: the features of images of which only some patches are seen.

        Args:
            seen: N x row x column, whether the other patches and the features know of a patch.
        """
        return self._in_batches(self._partial_part, images, seen)

    def _partial_part(self, images: Images, seen: Tensor) -> Tensor:
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(self._pixels(images)))
        known = F.pad(seen.flatten(1), (1, 0), value=True).to(hidden.device)  # the class token is
        ignored = torch.zeros(known.shape, dtype=hidden.dtype, device=hidden.device)
        ignored.masked_fill_(~known, torch.finfo(hidden.dtype).min)
        mask = ignored[:, None, None].expand(-1, 1, known.shape[1], -1)
        read = vision.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
        pooled = vision.post_layernorm(read[:, 0])
        return F.normalize(self.model.visual_projection(pooled), dim=-1).cpu()

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """N x width."""
        return self.features_of_ids(self.text_ids(texts))

    def text_ids(self, texts: Sequence[str]) -> Tensor:
        """N x tokens of the longest text."""
        inputs = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        ids: Tensor = inputs.input_ids
        return ids

    @torch.no_grad()
    def features_of_ids(self, ids: Tensor) -> Tensor:
        """N x width, of texts as ``text_ids`` gives them."""
        return self._in_batches(self._text_part, ids)

    def _text_part(self, ids: Tensor) -> Tensor:
        pooled = self.model.text_model(input_ids=ids.to(self.device)).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1).cpu()
