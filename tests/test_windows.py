"""Long signals: the layout by hand, every road to the same tokens, and a single pass as the judge."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tokcli.autoencoders.spectral import SpectralAutoencoder
from tokcli.autoencoders.vqgan import VQGANAutoencoder
from tokcli.autoencoders.waveform import WaveformAutoencoder
from tokcli.errors import InputError
from tokcli.quantizers.fsq import FiniteScalarQuantizer
from tokcli.tokenizer import Tokenizer
from tokcli.windows import Layout, Window


def tokenizer(window: int, **changes: object) -> Tokenizer:
    """8 samples per position, context 3, seeded: two of them differ in their windows alone."""
    torch.manual_seed(0)
    arguments = {"latent_dim": 3, "width": 16, "blocks": 1, "kernel": 3, "hop": 8, "frame": 32} | changes
    autoencoder = SpectralAutoencoder(window=window, **arguments)
    return Tokenizer(autoencoder, FiniteScalarQuantizer([8, 6, 5])).eval()


def sound(samples: int) -> Tensor:
    return torch.rand(1, 1, samples, generator=torch.Generator().manual_seed(1)) * 2 - 1


def cut(signal: Tensor, length: int) -> Iterator[Tensor]:
    """(1, channels, samples) as blocks (channels, samples)."""
    yield from signal[0].split(length, dim=1)


def test_windows_tile_a_signal_and_context_is_clipped_at_its_ends() -> None:
    assert list(Layout(length=4, context=2).windows(9)) == [
        Window(0, 6, slice(0, 4)),
        Window(2, 9, slice(2, 6)),
        Window(6, 9, slice(2, 3)),
    ]


def test_context_may_be_longer_than_a_window() -> None:
    assert list(Layout(length=1, context=2).windows(3)) == [
        Window(0, 3, slice(0, 1)),
        Window(0, 3, slice(1, 2)),
        Window(0, 3, slice(2, 3)),
    ]


def test_without_a_length_a_signal_is_one_window() -> None:
    assert list(Layout(length=None, context=0).windows(7)) == [Window(0, 7, slice(0, 7))]


@pytest.mark.parametrize("block", [1, 3, 8, 29, 1000])
@pytest.mark.parametrize("samples", [1, 5, 8, 32, 33, 40, 55, 56, 57, 64, 200])
@pytest.mark.parametrize("context", [0, 1, 6])
def test_blocks_of_any_length_gather_to_the_windows_of_the_whole(context: int, samples: int, block: int) -> None:
    layout, stride = Layout(length=4, context=context), 8
    signal = torch.arange(float(samples))[None]
    gathered = list(layout.gather(signal.split(block, dim=1), stride))
    assert [window for _, window in gathered] == list(layout.windows(-(-samples // stride)))
    for piece, window in gathered:
        assert torch.equal(piece, signal[:, window.samples(stride)])


def test_gathering_holds_no_more_than_a_window_and_its_context() -> None:
    """A hundred times the signal takes the same memory; the pieces are let go as they come."""
    layout = Layout(length=100, context=10)
    blocks = (torch.zeros(1, 64) for _ in range(10_000))
    largest = max(piece.untyped_storage().nbytes() for piece, _ in layout.gather(blocks, stride=8))
    assert largest <= 4 * (100 + 2 * 10 + 8) * 8


@pytest.mark.parametrize("samples", [1, 7, 8, 79, 80, 81, 400, 1003])
def test_every_road_gives_the_same_tokens_to_the_bit(samples: int) -> None:
    windowed = tokenizer(window=10)
    signal = sound(samples)
    tokens = windowed.encode(signal)
    assert tokens.shape == (1, *windowed.grid((samples,)), 1)
    assert torch.equal(windowed.quantizer.quantize(windowed.latents(signal)), tokens)
    assert torch.equal(windowed.encode(signal.expand(3, -1, -1)), tokens.expand(3, -1, -1))
    for block in (1, 50, 80, 5000):
        assert torch.equal(windowed.encode_stream(cut(signal, block)), tokens[0])


@pytest.mark.parametrize("samples", [1, 7, 8, 79, 80, 81, 400, 1003])
def test_every_road_gives_the_same_sound_to_the_bit(samples: int) -> None:
    windowed = tokenizer(window=10)
    tokens = windowed.encode(sound(samples))
    whole = windowed.decode(tokens, (samples,))
    pieces = list(windowed.decode_stream(tokens[0], (samples,)))
    assert whole.shape == (1, 1, samples)
    assert len(pieces) == len(list(windowed.layout.windows(tokens.shape[1])))
    assert torch.equal(torch.cat(pieces, dim=1), whole[0])


@pytest.mark.parametrize("window", [1, 4, 10, 37])
def test_windows_equal_a_single_pass(window: int) -> None:
    """Kernels are picked by length, so the last bits may differ; nothing else may, at no seam."""
    signal = sound(8 * 200)
    single, windowed = tokenizer(window=10_000), tokenizer(window=window)
    latents = single.latents(signal)
    torch.testing.assert_close(windowed.latents(signal), latents, rtol=0, atol=2e-6)
    tokens = single.encode(signal)
    assert (windowed.encode(signal) != tokens).float().mean() < 0.002
    expected = single.decode(tokens, (1600,))
    torch.testing.assert_close(windowed.decode(tokens, (1600,)), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("changes", [{}, {"attention": 1}, {"causal": True}])
def test_windows_of_a_waveform_network_equal_a_single_pass(changes: dict[str, object]) -> None:
    def latents_with(window: int) -> Tensor:
        torch.manual_seed(0)
        arguments = {"latent_dim": 3, "width": 4, "strides": [2, 3], "attention_reach": 4} | changes
        autoencoder = WaveformAutoencoder(window=window, **arguments)
        return Tokenizer(autoencoder, FiniteScalarQuantizer([8, 6, 5])).eval().latents(sound(6 * 150))

    torch.testing.assert_close(latents_with(window=40), latents_with(window=1000), rtol=0, atol=1e-5)


def test_less_context_than_declared_would_be_seen() -> None:
    """The proof above has teeth: one position of context less moves latents at the seams."""
    signal = sound(8 * 200)
    short = tokenizer(window=10)
    latents = short.latents(signal)
    short.autoencoder.context -= 1
    assert (short.latents(signal) - latents).abs().max() > 1e-4


def test_only_autoencoders_with_a_window_stream() -> None:
    images = VQGANAutoencoder(latent_dim=3, width=4, multipliers=[1], blocks=1)
    assert tokenizer(window=10).streams
    assert not Tokenizer(images, FiniteScalarQuantizer([8, 6, 5])).streams


def test_a_stream_without_a_sample_is_refused() -> None:
    for blocks in ([], [torch.empty(1, 0)]):
        with pytest.raises(InputError, match="there is no sample to encode; expected at least one"):
            tokenizer(window=10).encode_stream(blocks)


def test_autocast_and_gradients_do_not_reach_a_stream() -> None:
    windowed = tokenizer(window=10)
    signal = sound(300)
    plain = windowed.encode(signal)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(windowed.encode_stream(cut(signal, 100)), plain[0])
        pieces = list(windowed.decode_stream(plain[0], (300,)))
    assert not any(piece.requires_grad for piece in pieces)
    assert torch.equal(torch.cat(pieces, dim=1), windowed.decode(plain, (300,))[0])
