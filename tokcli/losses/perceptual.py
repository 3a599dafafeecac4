"""Losses that compare what a frozen network makes of two signals: LPIPS for images, Whisper for speech.

LPIPS (Zhang et al. 2018, arXiv 1801.03924): the papers of this project train with the VGG backbone. The reconstruction
is compared as it is: the rounding to 8 bits that the metric applies has no gradient.

Whisper: VP-VAE (arXiv 2602.17133) trains its audio tokenizers with such a term. What a recogniser keeps of speech is
what was said and how; a difference of spectra weighs a wrong phoneme like wrong hiss.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tokcli.backbones.lpips import load_local_lpips, load_lpips
from tokcli.backbones.whisper import SAMPLE_RATE, load_whisper
from tokcli.contracts import Loss, ModalityName
from tokcli.errors import ArgumentError, InputError
from tokcli.schema import CountOrZero, LocalFile, NotNegative

MEASURES = {"l1": functional.l1_loss, "mse": functional.mse_loss}


class LpipsLoss(Loss):
    """The mean LPIPS distance of a batch of images; gradients reach the images, never the network.

    Args:
        weight: the factor by which training multiplies it.
        backbone: the ImageNet classifier whose features are compared.
        weights: a safetensors file of the backbone's features; None takes the official file, fetched once.

    Raises:
        InputError: where the backbone's weight file is not to be had, or wrong.
    """

    modality: ClassVar[ModalityName | None] = "image"

    def __init__(
        self,
        weight: NotNegative = 1.0,
        backbone: Literal["vgg", "alex", "squeeze"] = "vgg",
        weights: LocalFile = None,
    ) -> None:
        super().__init__(weight)
        self.backbone = backbone
        self.network = load_lpips(backbone) if weights is None else load_local_lpips(backbone, weights)[0]

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, 3, height, width) in [-1, 1] -> scalar float32, not yet weighted.

        Raises:
            InputError: for images too small for the backbone.
        """
        if min(reference.shape[2:]) < self.network.smallest_side:
            height, width = reference.shape[2:]
            raise InputError(
                f"LPIPS with the {self.backbone} backbone cannot judge images of {height}x{width} pixels; "
                f"train on crops of at least {self.network.smallest_side} pixels a side"
            )
        return self.network(reconstruction, reference).mean()


class WhisperLoss(Loss):
    """The mean distance of Whisper's hidden states; gradients reach the audio, never the network.

    Several channels are compared one by one.

    Args:
        path: the folder of a Whisper model, in the layout of transformers: config.json and model.safetensors.
        weight: the factor by which training multiplies it.
        layers: the hidden states that are compared, each weighing the same: 0 is what enters the first block, n what
            leaves the n-th. None compares what leaves every block, from sounds to words.
        measure: between states brought to mean 0 and variance 1 at each position, because they grow with depth. `mse`
            is then twice one minus their correlation; `l1` sees more of the many channels beside the few that dominate.

    Raises:
        InputError: where `path` holds no whole Whisper model.
        UsageError: where transformers is not installed.
        ArgumentError: for a layer that the model does not have.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        path: str,
        weight: NotNegative = 1.0,
        layers: Annotated[Sequence[CountOrZero], Field(min_length=1)] | None = None,
        measure: Literal["l1", "mse"] = "l1",
    ) -> None:
        super().__init__(weight)
        self.measure = measure
        self.network = load_whisper(path)
        blocks = self.network.blocks
        self.layers = list(range(1, blocks + 1)) if layers is None else list(layers)
        if max(self.layers) > blocks:
            raise ArgumentError(f"layers is {layers}, expected numbers from 0 to {blocks}, the blocks of {path}")
        self.network.leave_out_blocks_after(max(self.layers))

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, samples) at 16 kHz in [-1, 1] -> scalar float32, not yet weighted.

        Raises:
            InputError: for audio longer than Whisper reads at a time.
        """
        with torch.no_grad():
            references = self.network(reference.flatten(0, 1))
        reconstructions = self.network(reconstruction.flatten(0, 1))
        total = torch.zeros((), device=reference.device)
        for layer in self.layers:
            total = total + self._distance(reconstructions[layer], references[layer])
        return total / len(self.layers)

    def _distance(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both states (batch, positions, channels) -> scalar."""
        first, second = (functional.layer_norm(state, state.shape[-1:]) for state in (reconstruction, reference))
        with torch.autocast(reference.device.type, enabled=False):
            return MEASURES[self.measure](first, second)
