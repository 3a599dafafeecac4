"""An autoencoder and a quantizer, joined: any size in, the same size out."""

import pytest
import torch
from torch import Tensor, nn

from tokcli.contracts import Autoencoder, Quantized, Quantizer
from tokcli.errors import RecipeError
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text
from tokcli.tokenizer import Tokenizer


class Halves(Autoencoder):
    """Averages pairs of samples, and repeats them: small enough to follow by hand. stride 2."""

    modality, channels = "audio", 1

    def __init__(self) -> None:
        super().__init__(stride=2, latent_dim=1)
        self.gain = nn.Parameter(torch.ones(()))

    def encode(self, signal: Tensor) -> Tensor:
        return self.gain * signal.unflatten(-1, (-1, 2)).mean(-1).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2).repeat_interleave(2, dim=-1)


class Tenths(Quantizer):
    """Rounds to tenths; asks the decoder for the unrounded latents as well."""

    input_dim, dim, groups, codebook_size = 1, 1, 1, 21

    def forward(self, latents: Tensor) -> Quantized:
        tokens = self.quantize(latents)
        return Quantized(self.dequantize(tokens), tokens, latents.new_zeros(()), alternatives=(latents,))

    def quantize(self, latents: Tensor) -> Tensor:
        return (latents * 10).round().long() + 10

    def dequantize(self, tokens: Tensor) -> Tensor:
        return (tokens - 10) / 10

    def codebook_tensors(self) -> dict[str, Tensor]:
        return {}


def test_an_odd_signal_is_padded_with_its_last_sample_and_cropped_back() -> None:
    tokenizer = Tokenizer(Halves(), Tenths())
    signal = torch.tensor([[[0.1, 0.3, 0.5]]])
    tokens = tokenizer.encode(signal)
    assert tokens.squeeze().tolist() == [12, 15]
    assert tokenizer.grid((3,)) == (2,)
    assert torch.allclose(tokenizer.decode(tokens, (3,)), torch.tensor([[[0.2, 0.2, 0.5]]]))


def test_every_set_of_latents_that_the_quantizer_names_is_decoded() -> None:
    output = Tokenizer(Halves(), Tenths())(torch.tensor([[[0.11, 0.33, 0.5]]]))
    rounded, exact = output.reconstructions
    assert torch.allclose(rounded, torch.tensor([[[0.2, 0.2, 0.5]]]))
    assert torch.allclose(exact, torch.tensor([[[0.22, 0.22, 0.5]]]))


def test_widths_that_do_not_meet_are_refused() -> None:
    wide = Tenths()
    wide.input_dim = 2
    with pytest.raises(RecipeError, match="the encoder gives 1 channels, but the quantizer reads 2"):
        Tokenizer(Halves(), wide)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 10), (16, 17)])
def test_images_of_any_size_come_back_at_their_size(tiny: str, size: tuple[int, int]) -> None:
    tokenizer = build_tokenizer(from_text(tiny, "tiny"))
    signal = torch.rand(2, 3, *size) * 2 - 1
    trip = tokenizer.round_trip(signal)
    assert trip.reconstruction.shape == signal.shape
    assert trip.tokens.shape == (2, *tokenizer.grid(size), 1)


def test_autocast_does_not_reach_what_decides_a_token(tiny: str) -> None:
    tokenizer = build_tokenizer(from_text(tiny, "tiny"))
    signal = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = tokenizer.encode(signal)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.encode(signal), plain)
        assert tokenizer.latents(signal).dtype == torch.float32


def test_a_batch_of_one_gives_the_tokens_of_a_batch_of_many(tiny: str) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(from_text(tiny, "tiny", ["autoencoder.width=32"]))
    signals = torch.rand(9, 3, 32, 32) * 2 - 1
    together = tokenizer.encode(signals)
    alone = torch.cat([tokenizer.encode(signal[None]) for signal in signals])
    assert torch.equal(together, alone)
