"""The token-rate autoencoder: exact frames, declared context, lengths, one sound against a batch."""

import pytest
import torch
from torch import Tensor

from tokcli.autoencoders.spectral import Frames, SpectralAutoencoder, spectral_features
from tokcli.errors import ArgumentError


def tiny(**changes: object) -> SpectralAutoencoder:
    """A network of 8 samples per position that runs in milliseconds."""
    torch.manual_seed(0)
    arguments = {"latent_dim": 3, "width": 8, "blocks": 2, "kernel": 3, "hop": 8, "frame": 32} | changes
    return SpectralAutoencoder(**arguments)


def sounds(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def moved(before: Tensor, after: Tensor) -> list[int]:
    """The positions at which two results (1, positions, …) differ at all."""
    return (before != after).flatten(2).any(2)[0].nonzero().flatten().tolist()


@pytest.mark.parametrize(("hop", "frame"), [(8, 16), (8, 24), (8, 32), (96, 384), (96, 480), (5, 15), (1, 3)])
@pytest.mark.parametrize("positions", [1, 2, 7])
def test_frames_of_a_signal_give_the_signal_back(hop: int, frame: int, positions: int) -> None:
    frames = Frames(hop, frame)
    signal = sounds(2, positions * hop)
    spectra = frames.analyse(signal)
    assert spectra.shape == (2, positions, frame // 2 + 1)
    torch.testing.assert_close(frames.synthesise(spectra), signal, rtol=0, atol=2e-6)


def test_a_frame_is_the_transform_of_the_samples_around_its_position() -> None:
    """Position 3 of hop 4 covers samples 12 to 15; a frame of 12 reaches 4 samples further on both sides."""
    signal = sounds(1, 32)
    expected = torch.fft.rfft(signal[0, 8:20] * torch.hann_window(12))
    torch.testing.assert_close(Frames(4, 12).analyse(signal)[0, 3], expected)


@pytest.mark.parametrize(("hop", "frame"), [(8, 8), (8, 20), (5, 10)])
def test_a_frame_that_does_not_fit_the_hop_is_refused(hop: int, frame: int) -> None:
    with pytest.raises(ValueError, match=rf"frame must be a multiple of the hop, .* got {frame} samples"):
        Frames(hop, frame)


def test_silence_and_full_scale_have_finite_features() -> None:
    frames = Frames(8, 32)
    for signal in (torch.zeros(1, 64), torch.ones(1, 64)):
        assert spectral_features(frames.analyse(signal)).isfinite().all()


def test_the_default_is_the_papers_token_rate() -> None:
    with torch.device("meta"):
        autoencoder = SpectralAutoencoder(latent_dim=4)
    assert autoencoder.sample_rate / autoencoder.stride == pytest.approx(166.67, abs=0.01)


@pytest.mark.parametrize("changes", [{}, {"blocks": 1, "kernel": 7}, {"frame": 16}, {"frame": 24}])
def test_a_sample_moves_the_latents_within_the_context_and_no_others(changes: dict[str, int]) -> None:
    autoencoder = tiny(**changes).double()
    context = autoencoder.context
    signal = sounds(1, 1, 8 * 60)
    before = autoencoder.encode(signal)
    touched = set()
    for sample in (30 * 8, 30 * 8 + 7):  # the ends of position 30
        changed = signal.clone()
        changed[..., sample] += 0.5
        touched |= set(moved(before, autoencoder.encode(changed)))
    assert sorted(touched) == list(range(30 - context, 31 + context))


@pytest.mark.parametrize("changes", [{}, {"blocks": 1, "kernel": 7}, {"frame": 16}, {"frame": 24}])
def test_a_latent_moves_the_samples_within_the_context_and_no_others(changes: dict[str, int]) -> None:
    autoencoder = tiny(**changes).double()
    context = autoencoder.context
    latents = sounds(1, 60, 3).double()
    before = autoencoder.decode(latents)
    latents[0, 30] += 1
    after = autoencoder.decode(latents)
    hops = moved(before.view(1, 60, 8), after.view(1, 60, 8))
    assert hops == list(range(30 - context, 31 + context))


def test_last_layer_is_the_weight_that_makes_the_spectra() -> None:
    """With its gradient alone a decoder learns one frame's spectrum; every sample depends on it."""
    autoencoder = tiny()
    autoencoder.decode(sounds(1, 5, 3)).square().sum().backward()
    assert autoencoder.last_layer.shape == (2 * (32 // 2 + 1), 8)
    assert autoencoder.last_layer.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": 4}, "kernel must be odd, so that it has a middle, got 4"),
        ({"frame": 20}, "frame must be a multiple of the hop"),
        ({"hop": 0}, "hop: expected 1 or more, got 0"),
        ({"window": 0, "blocks": 0}, "window: expected 1 or more, got 0"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        tiny(**changes)
