"""Whisper as a loss, on a small random model saved as real ones are: its front end, its features, plain refusals."""

import json
import logging
import pathlib
import shutil
import sys

import pytest
import torch

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.whisper import load_whisper
from tokcli.errors import InputError, RecipeError, UsageError
from tokcli.losses import LOSSES

let_torchvision_import()
transformers = pytest.importorskip("transformers")

SOUNDS = torch.randn(2, 3, 1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A Whisper model with 3 blocks and dropout that hears 2 s, in half precision, with its decoder."""
    config = transformers.WhisperConfig(
        vocab_size=16,
        d_model=16,
        dropout=0.5,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        encoder_layerdrop=0.5,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("whisper") / "tiny"
    model = transformers.WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        # The initial weights are so small that the sound would hardly be heard beside the positions.
        torch.nn.init.normal_(parameter, std=0.2)
    model.half().save_pretrained(path)
    return path


@pytest.fixture
def broken(folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the model to break."""
    return shutil.copytree(folder, tmp_path / "broken")


def build(folder: pathlib.Path, **arguments: object) -> torch.nn.Module:
    return LOSSES.build({"kind": "whisper", "path": str(folder), **arguments}, "losses.1")


@pytest.mark.parametrize("samples", [1, 160, 3999, 9600, 32_000])
def test_the_front_end_is_whispers_own(folder, samples) -> None:
    sound = torch.randn(2, samples, generator=torch.Generator().manual_seed(1)) * 0.1
    ours = load_whisper(str(folder)).log_mel(sound)
    extractor = transformers.WhisperFeatureExtractor()
    theirs = extractor(list(sound.numpy()), sampling_rate=16_000, return_tensors="pt").input_features
    assert ours.shape == (2, 80, 2 * -(-samples // 320))
    torch.testing.assert_close(ours, theirs[..., : ours.shape[-1]], atol=1e-4, rtol=0)


def test_a_clip_as_long_as_whisper_hears_gets_the_packages_features(folder) -> None:
    ours = load_whisper(str(folder))
    theirs = transformers.WhisperModel.from_pretrained(folder).get_encoder().float().eval()
    sound = torch.randn(1, 32_000, generator=torch.Generator().manual_seed(1)) * 0.1
    expected = theirs(ours.log_mel(sound), output_hidden_states=True).hidden_states
    ours(sound[:, :5000])  # a shorter clip before it leaves no trace
    found = ours(sound)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_short_clip_is_heard_at_its_own_positions(folder) -> None:
    states = load_whisper(str(folder))(SOUNDS[0].flatten(1))
    assert [state.shape for state in states] == [(3, 13, 16)] * 4  # 4000 / 320 = 12.5


def test_the_loss_is_the_mean_over_layers_of_the_distance_of_normalised_states(folder) -> None:
    states = [load_whisper(str(folder))(sounds.flatten(1)) for sounds in SOUNDS]
    apart = []
    for layer in (0, 2):
        first, second = ((state[layer] - state[layer].mean(-1, keepdim=True)) for state in states)
        first, second = (state / state.square().mean(-1, keepdim=True).sqrt() for state in (first, second))
        apart.append((first - second).abs().mean())
    loss = build(folder, layers=[0, 2], weight=0.5)
    torch.testing.assert_close(loss(*SOUNDS), sum(apart) / 2, atol=1e-3, rtol=0)
    assert loss.weight == 0.5
    assert loss.modality == "audio"


def test_the_squared_distance_is_twice_one_minus_the_correlation(folder) -> None:
    first, second = (load_whisper(str(folder))(sounds.flatten(1))[3].flatten(0, 1) for sounds in SOUNDS)
    correlations = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(first, second, strict=True)]
    expected = 2 * (1 - torch.stack(correlations).mean())
    torch.testing.assert_close(build(folder, layers=[3], measure="mse")(*SOUNDS), expected, atol=1e-3, rtol=0)


def test_blocks_above_the_compared_layers_are_left_out_without_a_trace(folder) -> None:
    every = load_whisper(str(folder))(SOUNDS[0].flatten(1))
    for layer in (0, 1, 2):
        network = build(folder, layers=[layer]).network
        assert network.blocks == max(layer, 1)
        torch.testing.assert_close(network(SOUNDS[0].flatten(1))[layer], every[layer], atol=1e-6, rtol=0)


def test_only_the_sounds_receive_gradients_and_nothing_is_random_in_training(folder) -> None:
    loss = build(folder).train()
    reconstruction = SOUNDS[0].clone().requires_grad_()
    value = loss(reconstruction, SOUNDS[1])
    value.backward()
    assert (reconstruction.grad != 0).float().mean() > 0.9
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in loss.parameters())
    assert torch.equal(loss(*SOUNDS), value)
    assert loss(SOUNDS[0], SOUNDS[0]) == 0


def test_descending_the_loss_brings_the_sound_closer_to_whispers_ear(folder) -> None:
    loss = build(folder)
    sound = SOUNDS[0].clone().requires_grad_()
    optimizer = torch.optim.Adam([sound], lr=1e-2)
    before = loss(sound, SOUNDS[1])
    for _ in range(20):
        optimizer.zero_grad()
        loss(sound, SOUNDS[1]).backward()
        optimizer.step()
    assert loss(sound, SOUNDS[1]) < 0.8 * before


def test_silence_has_finite_gradients_and_stereo_is_heard_channel_by_channel(folder) -> None:
    loss = build(folder)
    silence = torch.zeros(3, 1, 4000, requires_grad=True)
    loss(silence, SOUNDS[0]).backward()
    assert torch.isfinite(silence.grad).all()
    stereo = SOUNDS.permute(0, 2, 1, 3)
    torch.testing.assert_close(loss(*stereo), loss(*SOUNDS))


def test_bfloat16_autocast_is_computed_in_float32(folder) -> None:
    loss = build(folder)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(*SOUNDS)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(*SOUNDS))


def test_loading_is_silent_and_leaves_the_random_generator_alone(folder, capfd) -> None:
    before = torch.get_rng_state()
    build(folder)
    assert torch.equal(torch.get_rng_state(), before)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert transformers.logging.get_verbosity() == logging.WARNING


def test_clips_longer_than_whisper_hears_are_refused(folder) -> None:
    long = torch.zeros(1, 1, 33_600)
    with pytest.raises(InputError, match=r"hears at most 2 s at a time, got 2\.1 s; train on shorter crops"):
        build(folder)(long, long)


def test_an_absent_folder_is_named_with_what_is_wanted(tmp_path) -> None:
    wanted = r"expected the folder of a Whisper model.*config\.json and model\.safetensors; nothing is downloaded"
    with pytest.raises(InputError, match=rf"^losses\.1: there is no folder openai/whisper-small; {wanted}"):
        LOSSES.build({"kind": "whisper", "path": "openai/whisper-small"}, "losses.1")
    with pytest.raises(InputError, match=rf"{tmp_path} holds no readable config\.json; {wanted}"):
        build(tmp_path)


def test_another_model_is_refused_by_its_type(broken) -> None:
    (broken / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="holds a model of type 'bert', not 'whisper'; expected the folder"):
        build(broken)


def test_weights_that_are_absent_torn_or_of_another_model_are_refused(broken) -> None:
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    stub = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 1\n"
    for content in (b"", stub, whole[:20], whole[: len(whole) // 2]):
        weights.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.safetensors is cut off or not what its name says"):
            build(broken)
    header = json.dumps({"other": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    weights.write_bytes(len(header).to_bytes(8, "little") + header + b"0")
    with pytest.raises(InputError, match=r"is no whole Whisper model: \d+ tensors are missing, the first"):
        build(broken)
    weights.unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors; expected the folder"):
        build(broken)


def test_weights_of_another_size_than_the_configuration_says_are_refused(broken) -> None:
    config = broken / "config.json"
    config.write_text(config.read_text().replace('"d_model": 16', '"d_model": 32'))
    with pytest.raises(InputError, match="cannot be read as a Whisper model"):
        build(broken)


def test_an_absent_package_is_asked_for(folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        UsageError, match=r"transformers is not installed; run: pip install transformers \(extra: whisper\)$"
    ):
        build(folder)


def test_arguments_that_do_not_fit_are_refused(folder) -> None:
    refused = r"^losses\.1: layers is \[4\], expected numbers from 0 to 3, the blocks of"
    with pytest.raises(RecipeError, match=refused):
        build(folder, layers=[4])
    with pytest.raises(RecipeError, match=r"^losses\.1\.layers\.0: expected 0 or more, got -1"):
        build(folder, layers=[-1])
    with pytest.raises(RecipeError, match=r"^losses\.1.*layers"):
        build(folder, layers=[])
    with pytest.raises(RecipeError, match="measure: input should be 'l1' or 'mse', got 'cosine'"):
        build(folder, measure="cosine")
