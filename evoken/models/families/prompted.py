"""What the flows share whose prompts are read by one language model, each as long as it is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from evoken.arrays import NO_WORDS, Hidden, Latents, NoiseLevels, Words
from evoken.errors import ModelError
from evoken.models.bases import Base, like
from evoken.models.encoders import TextEncoders
from evoken.models.families.flow import FlowModel
from evoken.models.language import Form, LanguageModel, by_length
from evoken.spec import ModelSpec


class PromptedFlow(FlowModel):
    """A flow that reads the states of a language model. Its parts are called as in diffusers:
    ``text_encoder``, ``tokenizer``, ``transformer``, ``scheduler`` and ``vae``.

    ``Hidden`` here has one more column, see ``evoken.models.language``.
    """

    exported = False

    def __init__(
        self,
        pipeline: Any,
        function: nn.Module,
        spec: ModelSpec,
        base: Base,
        form: Form,
        layers: Sequence[int] = (),
        negative: Form | None = None,
        *,
        width: int,
        side: int,
        patch: int,
        from_one: bool = True,
    ) -> None:
        """
        Args:
            function: of latents, the denoiser's time and what it reads of a prompt; and of
                guidance, where that is an input.
            base: the kind of model, or one of several with the same pipeline.
            form: of prompts.
            layers: see ``LanguageModel``.
            negative: the form of negative prompts, where that is another.
            width: of what the denoiser reads.
            side, patch, from_one: see ``FlowModel``.

        Raises:
            ModelError: the denoiser reads another text encoder's states.
        """
        self.text = LanguageModel(pipeline.text_encoder, pipeline.tokenizer, spec, form, layers)
        self._negative = negative or form
        found = self.text.width * max(1, len(layers))
        if found != width:
            raise ModelError(
                f"the denoiser reads a prompt of width {width}, and its text encoder makes one of "
                f"{found}.",
                "Take both from the same model.",
            )
        kind = like(base, self.text.width)
        self.architecture = kind.architecture
        name = next(iter(kind.widths))
        texts = TextEncoders({name: self.text}, spec.encoders, (name,))
        super().__init__(pipeline, function, texts, spec, side, patch, from_one)

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """The states that the pipeline's ``encode_prompt`` gives; of padding only those that the
        denoiser reads.
        """
        return self.text.encode(prompts, words)

    def condition_negative(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """Those that it gives of negative prompts."""
        return self.text.encode(prompts, words, form=self._negative)

    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        """The velocity for each item of the batch."""
        return self._each_length(latents, self.process.timestep(t), hidden)

    @torch.no_grad()
    def _each_length(
        self, latents: Latents, time: NoiseLevels, hidden: Hidden, *more: float
    ) -> Latents:
        """The denoiser on rows of one length at a time. Which rows those are the task decides, and
        no setting.

        Args:
            time: as the denoiser is told it.
            more: further inputs of it, the same for every row.
        """
        found = torch.empty_like(latents)
        for rows, states in by_length(hidden):
            same = [torch.full((len(rows),), value) for value in more]
            found[rows] = self._denoise(latents[rows], time[rows], states, *same)
        return found
