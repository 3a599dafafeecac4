"""A perceptual loss for speech: how differently a frozen Whisper encoder hears two sounds.

VP-VAE (arXiv 2602.17133) trains its audio tokenizers with such a term. What a recogniser keeps of a sound is what was
said and how; a difference of spectra weighs a wrong phoneme like wrong hiss.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tokcli.backbones.whisper import SAMPLE_RATE, load_whisper
from tokcli.contracts import ModalityName
from tokcli.losses.base import WeightedLoss

MEASURES = {"l1": functional.l1_loss, "mse": functional.mse_loss}


class WhisperLoss(WeightedLoss):
    """The mean distance of hidden states; gradients reach the sounds, never the network.

    path: the folder of a Whisper model, in the layout of transformers: config.json and model.safetensors.
    layers: the hidden states that are compared, each weighing the same: 0 is what enters the first block, n what
        leaves the n-th. None compares what leaves every block, from sounds to words.
    measure: between states brought to mean 0 and variance 1 at each position, because they grow with depth. `mse` is
        then twice one minus their correlation; `l1` hears more of the many channels beside the few that dominate.

    Several channels are heard one by one. Raises InputError on construction where `path` holds no whole Whisper
    model, UsageError where transformers is not installed, ValueError for a layer that the model does not have.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        path: str,
        weight: float = 1.0,
        layers: list[int] | None = None,
        measure: Literal["l1", "mse"] = "l1",
    ) -> None:
        super().__init__(weight)
        if measure not in MEASURES:
            raise ValueError(f"measure is {measure!r}, expected 'l1' or 'mse'")
        self.measure = measure
        self.network = load_whisper(path)
        blocks = self.network.blocks
        self.layers = list(range(1, blocks + 1)) if layers is None else list(layers)
        if not self.layers or not all(0 <= layer <= blocks for layer in self.layers):
            raise ValueError(f"layers is {layers}, expected numbers from 0 to {blocks}, the blocks of {path}")
        self.network.leave_out_blocks_after(max(self.layers))

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Both (batch, channels, samples) at 16 kHz in [-1, 1] -> scalar float32, not yet weighted.

        Raises InputError for sounds longer than Whisper hears at a time.
        """
        with torch.no_grad():
            wanted = self.network(reference.flatten(0, 1))
        found = self.network(reconstruction.flatten(0, 1))
        return sum(self._distance(found[layer], wanted[layer]) for layer in self.layers) / len(self.layers)

    def _distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        states = (functional.layer_norm(state, state.shape[-1:]) for state in (found, wanted))
        with torch.autocast(found.device.type, enabled=False):
            return MEASURES[self.measure](*states)
