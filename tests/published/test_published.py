"""Tokens and reconstructions of a published tokenizer are those of its library's own calls, whatever the length."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from published_networks import BUILDERS, build_encodec, build_vqmodel

from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.published import PublishedCodec, find_place, open_published

Networks = Callable[[str], tuple[pathlib.Path, Any]]

AUDIO = ("encodec", "dac", "mimi", "xcodec")
"""The choice that halves the codebooks of each, for `@N`, and how its library is asked for that."""

CHOICES = {"encodec": (3.0, "bandwidth"), "dac": (2, "n_quantizers"), "mimi": (2, "num_quantizers")}
CHOICES |= {"xcodec": (0.3, "bandwidth")}


def open_codec(path: pathlib.Path | str) -> PublishedCodec:
    place = find_place(str(path))
    assert place is not None
    return open_published(place).codec


def make_signals(codec: PublishedCodec, items: int = 2, whole: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    stride = codec.network.stride
    size = (6 * stride,) if codec.modality == "audio" else (8 * stride, 6 * stride)
    size = size if whole else tuple(length - 1 for length in size)
    return (torch.rand((items, codec.channels, *size), generator=generator) - 0.5).clamp(-1, 1)


@torch.no_grad()
def call_library(name: str, model: Any, signals: torch.Tensor, **choice: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (batch, *grid, groups) and reconstructions, by what the library's own documentation calls."""
    if name == "encodec":
        codes, scales, _ = model.encode(signals, return_dict=False, **choice)
        return codes[0].transpose(1, 2), model.decode(codes, scales).audio_values
    if name in AUDIO:
        codes = model.encode(signals, **choice).audio_codes
        values = model.decode(audio_codes=codes).audio_values
        return codes.transpose(1, 2), values.reshape(len(signals), 1, -1)
    height, width = (length // 2 for length in signals.shape[2:])
    if name == "janus":
        model.quantize.quant_state_dims = [height, width]
        tokens = model.encode(signals).image_tokens.view(len(signals), height, width, 1)
        return tokens, model(signals).decoded_pixel_values
    if name == "emu3":
        tokens = torch.stack(model.encode(signals, torch.tensor([signals.shape[2:]] * len(signals))).image_tokens)
        return tokens[..., None], model.decode(tokens)
    latents = model.encode(signals).latents
    tokens = model.quantize(latents)[2][2].view(len(signals), height, width, 1)
    return tokens, model(signals).sample


@pytest.mark.parametrize("name", list(BUILDERS))
def test_tokens_and_reconstruction_are_the_librarys_own(name: str, networks: Networks) -> None:
    folder, model = networks(name)
    codec = open_codec(folder)
    signals = make_signals(codec)
    own, returned = call_library(name, model, signals)
    tokens = codec.encode(signals)
    assert torch.equal(tokens, own)
    assert len(tokens.unique()) > 4, "a parity of constants would prove nothing"
    assert tokens.shape[1:] == (*codec.grid(signals.shape[2:]), codec.groups)
    reconstruction = codec.decode(tokens, signals.shape[2:])
    assert reconstruction.shape == signals.shape
    length = min(returned.shape[-1], signals.shape[-1])  # DAC gives fewer samples back
    torch.testing.assert_close(reconstruction[..., :length], returned[..., :length], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", AUDIO)
def test_a_number_behind_an_at_chooses_the_bandwidth_or_the_codebooks(name: str, networks: Networks) -> None:
    folder, model = networks(name)
    choice, argument = CHOICES[name]
    codec = open_codec(f"{folder}@{choice:g}")
    signals = make_signals(codec)
    own, _ = call_library(name, model, signals, **{argument: choice})
    assert torch.equal(codec.encode(signals), own)
    assert codec.groups == own.shape[-1]


@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_batch_is_its_items_and_every_length_comes_back(name: str, networks: Networks) -> None:
    codec = open_codec(networks(name)[0])
    signals = make_signals(codec, 3, whole=False)
    tokens = codec.encode(signals)
    returned = codec.decode(tokens, signals.shape[2:])
    assert returned.shape == signals.shape
    for number in range(3):
        assert torch.equal(codec.encode(signals[number : number + 1])[0], tokens[number])
        assert torch.equal(codec.decode(tokens[number : number + 1], signals.shape[2:])[0], returned[number])
    assert torch.equal(open_codec(networks(name)[0]).encode(signals), tokens)
    assert codec.grid(codec.cover(tokens.shape[1:-1])) == tokens.shape[1:-1]


@pytest.mark.parametrize("name", AUDIO)
def test_one_sample_is_one_position(name: str, networks: Networks) -> None:
    codec = open_codec(networks(name)[0])
    tokens = codec.encode(torch.full((1, 1, 1), 0.5))
    assert tokens.shape == (1, 1, codec.groups)
    assert codec.decode(tokens, (1,)).shape == (1, 1, 1)


def test_fewer_codebooks_are_decoded_and_more_refused(networks: Networks) -> None:
    codec = open_codec(networks("dac")[0])
    tokens = codec.encode(make_signals(codec))
    assert codec.decode(tokens[..., :1], (100,)).shape == (2, 1, 100)
    with pytest.raises(MismatchError, match="5 tokens per position, and the network has 4 codebooks"):
        codec.decode(torch.cat([tokens, tokens[..., :1]], dim=-1), (100,))


def test_two_channels_are_given_the_same_and_averaged(tmp_path: pathlib.Path) -> None:
    torch.manual_seed(0)
    model = build_encodec(audio_channels=2).eval()
    model.save_pretrained(tmp_path)
    codec = open_codec(tmp_path)
    signals = make_signals(codec)
    assert codec.channels == signals.shape[1] == 1
    own, returned = call_library("encodec", model, signals.repeat(1, 2, 1))
    assert torch.equal(codec.encode(signals), own)
    length = signals.shape[-1]
    expected = returned.mean(1, keepdim=True)[..., :length]
    torch.testing.assert_close(codec.decode(own, (length,)), expected, rtol=0, atol=1e-6)


def test_pictures_take_the_values_that_their_processor_says(networks: Networks, tmp_path: pathlib.Path) -> None:
    folder, model = networks("emu3")
    shutil.copytree(folder, tmp_path / "emu3")
    said = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "emu3" / "preprocessor_config.json").write_text(json.dumps(said))
    codec = open_codec(tmp_path / "emu3")
    signals = make_signals(codec)
    mean, deviation = (torch.tensor(said[key]).view(1, 3, 1, 1) for key in said)
    own, returned = call_library("emu3", model, ((signals + 1) / 2 - mean) / deviation)
    tokens = codec.encode(signals)
    assert torch.equal(tokens, own)
    expected = (returned * deviation + mean) * 2 - 1
    torch.testing.assert_close(codec.decode(tokens, signals.shape[2:]), expected, rtol=0, atol=1e-5)


def test_a_vqmodel_that_looks_codes_up_takes_values_from_0_to_1(tmp_path: pathlib.Path) -> None:
    torch.manual_seed(0)
    model = build_vqmodel(lookup_from_codebook=True).eval()
    model.save_pretrained(tmp_path / "vqvae")
    (tmp_path / "model_index.json").write_text("{}")  # the folder of a pipeline holds it
    codec = open_codec(tmp_path)
    signals = make_signals(codec)
    own, returned = call_library("vqmodel", model, (signals + 1) / 2)
    tokens = codec.encode(signals)
    assert torch.equal(tokens, own)
    torch.testing.assert_close(codec.decode(tokens, signals.shape[2:]), returned * 2 - 1, rtol=0, atol=2e-5)


def test_opening_leaves_torchs_generator_as_it_was(networks: Networks) -> None:
    folder, _ = networks("dac")
    before = torch.get_rng_state()
    open_codec(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_record_says_what_it_is_and_follows_the_weights(networks: Networks, tmp_path: pathlib.Path) -> None:
    folder, _ = networks("dac")
    first = open_published(find_place(f"{folder}@2"))  # pyright: ignore[reportArgumentType]
    assert first.record["source"] == str(folder)
    assert first.record["revision"] is None
    assert (first.record["class"], first.record["codebooks"], first.record["sample_rate"]) == ("DacModel", 2, 16000)
    assert first.record["sha256"] == first.fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert open_published(find_place(str(tmp_path / "copy"))).fingerprint == first.fingerprint  # pyright: ignore
    torch.manual_seed(5)
    BUILDERS["dac"]().save_pretrained(tmp_path / "other")
    assert open_published(find_place(str(tmp_path / "other"))).fingerprint != first.fingerprint  # pyright: ignore


MISTAKES = [
    ("encodec@5", UsageError, "no such bandwidth; expected @1.5, @3, @6"),
    ("dac@9", UsageError, "has 4 codebooks; expected @1 to @4"),
    ("dac@1.5", UsageError, "expected @1 to @4"),
    ("janus@3", UsageError, "has nothing to choose; leave it out"),
]


@pytest.mark.parametrize(("named", "kind", "words"), MISTAKES)
def test_a_choice_that_there_is_not_is_refused(
    named: str, kind: type[TokError], words: str, networks: Networks
) -> None:
    name, _, choice = named.partition("@")
    with pytest.raises(kind, match=words):
        open_codec(f"{networks(name)[0]}@{choice}")


def test_what_cannot_be_opened_says_why(networks: Networks, tmp_path: pathlib.Path) -> None:
    def copy(name: str, to: str) -> pathlib.Path:
        return pathlib.Path(shutil.copytree(networks(name)[0], tmp_path / to))

    unknown = copy("dac", "unknown")
    (unknown / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(MismatchError, match=r"of the kind 'bert', which gives no tokens .*; expected one of: encodec"):
        open_codec(unknown)
    (unknown / "config.json").write_text("{")
    with pytest.raises(MismatchError, match=r"config\.json is damaged"):
        open_codec(unknown)
    pickled = copy("dac", "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(MismatchError, match=r"no \.safetensors file, but pytorch_model\.bin, a pickle, which is never"):
        open_codec(pickled)
    cut = copy("dac", "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as DacModel of transformers"):
        open_codec(cut)
    wider = copy("dac", "wider")
    config = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps(config | {"n_codebooks": 5}))
    with pytest.raises(TokError, match="tensors lack: quantizer"):
        open_codec(wider)
    build_encodec(normalize=True, chunk_length_s=1.0, overlap=0.01).save_pretrained(tmp_path / "loud")
    with pytest.raises(MismatchError, match="keeps the loudness"):
        open_codec(tmp_path / "loud")


def test_a_folder_without_config_is_none(tmp_path: pathlib.Path) -> None:
    assert find_place(str(tmp_path)) is None
    assert find_place(str(tmp_path / "nowhere@6")) is None
