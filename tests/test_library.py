"""The front door: what `tokcli.load` opens takes what people have, and says what it cannot take."""

import pathlib
import subprocess
import sys
import warnings

import numpy
import pytest
import soundfile
import torch
from PIL import Image

import tokcli
from tokcli.artifacts import Artifact
from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.library import LoadedTokenizer
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text

GROUND = pathlib.Path(__file__).parent / "ground"


@pytest.fixture
def images() -> LoadedTokenizer:
    return tokcli.load(GROUND / "image-fsp" / "tokenizer.safetensors")


@pytest.fixture
def sounds() -> LoadedTokenizer:
    return tokcli.load(GROUND / "audio-fsp" / "tokenizer.safetensors")


def picture(height: int = 16, width: int = 12) -> numpy.ndarray:
    """(height, width, 3) uint8."""
    return numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, tokcli; tokcli.__version__; dir(tokcli); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_offers_what_it_lists() -> None:
    assert set(tokcli.__all__) == set(tokcli._HOMES) < set(dir(tokcli))
    assert all(callable(getattr(tokcli, name)) for name in tokcli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = tokcli.lode  # type: ignore[attr-defined]


def test_a_string_a_path_and_a_run_folder_open_the_same(tmp_path: pathlib.Path, images) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "tokenizer.safetensors").write_bytes(images.path.read_bytes())
    opened = [tokcli.load(run), tokcli.load(str(run)), tokcli.load(str(run / "tokenizer.safetensors"))]
    assert {each.codebook_size for each in opened} == {60}
    assert repr(opened[0]) == f"<image tokenizer {run}/tokenizer.safetensors: fsp, 60 codes, stride 2>"
    with pytest.raises(InputError, match="there is no tokenizer at"):
        tokcli.load(tmp_path / "nothing")


def test_a_codebook_is_chosen_by_its_size() -> None:
    artifact = GROUND / "image-vpvae" / "tokenizer.safetensors"
    assert tokcli.load(artifact, codebook=16).codebook_size == 16
    with pytest.raises(UsageError, match="no codebook of 17 codes"):
        tokcli.load(artifact, codebook=17)


def test_one_picture_gives_the_same_tokens_in_every_shape_that_it_may_come_in(tmp_path, images) -> None:
    pixels = picture()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    signal = torch.from_numpy(pixels).permute(2, 0, 1).float().mul_(1 / 127.5).sub_(1.0)
    tokens = images.encode(pixels)
    assert tokens.shape == (8, 6)
    assert tokens.dtype == torch.int64
    same = [
        Image.fromarray(pixels),
        path,
        str(path),
        signal,
        torch.from_numpy(pixels).permute(2, 0, 1),
        signal.double(),
    ]
    same += [signal.permute(1, 2, 0).numpy(), numpy.asfortranarray(pixels), pixels[::-1][::-1]]
    for each in same:
        assert torch.equal(images.encode(each), tokens), type(each)
    assert torch.equal(images.encode(signal[None]), tokens[None])
    assert torch.equal(images.encode(pixels[None]), tokens[None])
    listed = images.encode([pixels, path, signal])
    assert len(listed) == 3
    assert all(torch.equal(each, tokens) for each in listed)


def test_one_sound_gives_the_same_tokens_in_every_shape_that_it_may_come_in(tmp_path, sounds) -> None:
    samples = numpy.random.default_rng(0).integers(-9000, 9000, 500).astype(numpy.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000)
    signal = samples.astype(numpy.float32) / 32768
    tokens = sounds.encode(signal)
    assert tokens.shape == (11,)
    mono = torch.from_numpy(signal)
    for each in (path, mono, mono[None], signal[:, None]):
        assert torch.equal(sounds.encode(each), tokens)
    for batch in (mono[None, None], signal[None, :, None]):
        assert torch.equal(sounds.encode(batch), tokens[None])


def test_a_picture_of_another_mode_is_read_as_a_file_is(tmp_path, images) -> None:
    grey = Image.fromarray(picture()).convert("L")
    grey.save(tmp_path / "grey.png")
    assert torch.equal(images.encode(grey), images.encode(tmp_path / "grey.png"))


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (torch.rand(3, 16, 16) * 255, r"values from .* to 25.*floats must lie in \[-1, 1\]"),
        (torch.full((3, 16, 16), torch.nan), "values from nan to nan"),
        (torch.zeros(3, 16, 16, dtype=torch.int32), r"values of type torch.int32: expected uint8 or floats"),
        (torch.zeros(3, 16, 16, dtype=torch.bool), "values of type torch.bool"),
        (torch.zeros(3, 16, 16, dtype=torch.complex64), "values of type torch.complex64"),
        (numpy.zeros((16, 16, 3), numpy.int64), "values of type torch.int64"),
        (numpy.zeros((16, 16, 3), "U1"), "values of type <U1"),
        (torch.zeros(4, 16, 16), r"torch tensors are \(3, height, width\) here, with one more axis in front"),
        (torch.zeros(16, 16, 3), r"torch tensors are \(3, height, width\)"),
        (numpy.zeros((3, 16, 16)), r"NumPy arrays are \(height, width, 3\)"),
        (numpy.zeros((16, 16)), r"shape \(16, 16\)"),
        (torch.zeros(3, 0, 16), "there is nothing to encode"),
    ],
)
def test_a_picture_that_cannot_be_meant_is_refused_with_its_reason(images, signal, message: str) -> None:
    with pytest.raises(InputError, match=message):
        images.encode(signal)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (numpy.zeros(500, numpy.int16), r"values of type torch.int16: expected floats in \[-1, 1\]"),
        (numpy.zeros(500, numpy.uint8), "values of type torch.uint8"),
        (torch.zeros(2, 500), r"torch tensors are \(1, samples\)"),
        (numpy.zeros((500, 2)), r"NumPy arrays are \(samples, 1\)"),
        (Image.new("RGB", (4, 4)), "this tokenizer takes audio, got a picture"),
    ],
)
def test_a_sound_that_cannot_be_meant_is_refused_with_its_reason(sounds, signal, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sounds.encode(signal)


def test_floats_that_look_as_if_they_were_in_0_to_1_bring_a_warning(images) -> None:
    with pytest.warns(UserWarning, match=r"floats in \[0, 1\] are scaled by 2"):
        images.encode(torch.rand(3, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.encode(torch.ones(3, 16, 16))  # plain white


@pytest.mark.parametrize("path", ["missing.png", ".", "list.txt"])
def test_a_path_that_is_no_file_of_the_modality_is_refused(images, tmp_path, monkeypatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.png\n")
    with pytest.raises(InputError, match=r"expected one file \(\.jpg"):
        images.encode(path)


def test_a_damaged_picture_is_an_input_error(images, tmp_path) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be read"):
        images.encode(Image.open(tmp_path / "cut.png"))
    with pytest.raises(InputError, match=r"cut\.png"):
        images.encode(tmp_path / "cut.png")


def test_something_else_is_a_type_error(images) -> None:
    with pytest.raises(TypeError, match="expected a PIL image, an array, a path, or a list of these; got dict"):
        images.encode({})


INTEGERS = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_tokens_decode_in_any_integer_type_without_a_size(images, dtype: torch.dtype) -> None:
    tokens = images.encode(picture())
    signal = images.decode(tokens)
    assert signal.shape == (3, 16, 12)
    stored = tokens.to(dtype)
    assert torch.equal(images.decode(stored), signal)
    assert torch.equal(images.decode(stored.numpy()), signal)
    assert torch.equal(images.decode(stored[None]), signal[None])
    assert torch.equal(images.decode(stored[..., None]), signal)
    assert torch.equal(images.decode(stored[None, ..., None]), signal[None])
    assert torch.equal(images.decode(tokens.tolist()), signal)
    assert torch.equal(images.decode([stored, tokens])[1], signal)


def test_a_size_crops_what_the_grid_covers(images) -> None:
    tokens = images.encode(picture(15, 12))
    assert images.decode(tokens, (15, 12)).shape == (3, 15, 12)
    with pytest.raises(MismatchError, match=r"the size \(15, 15\) does not fit a grid of \(8, 6\), which covers"):
        images.decode(tokens, (15, 15))


@pytest.mark.parametrize("wrong", [60, -1, 5000])
def test_a_token_that_the_codebook_does_not_have_is_refused(images, wrong: int) -> None:
    tokens = images.encode(picture())
    tokens[0, 0] = wrong
    with pytest.raises(MismatchError, match=rf"the token {wrong} is not one of the 60 codes \(0 to 59\)"):
        images.decode(tokens)


def test_tokens_of_another_shape_or_type_are_refused(images) -> None:
    with pytest.raises(MismatchError, match=r"expected \(height, width\), or a batch"):
        images.decode(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"tokens are integers, got torch\.float32"):
        images.decode(torch.zeros(4, 4))
    with pytest.raises(TypeError, match="tokens are integers, got float64"):
        images.decode(numpy.zeros((4, 4)))
    with pytest.raises(TypeError, match="tokens are integers"):
        images.decode("tokens.npy")


def test_token_files_open_and_their_items_decode_to_their_own_size(images) -> None:
    tokens = tokcli.load_tokens(GROUND / "image-fsp" / "tokens.safetensors")
    sizes = {item.name: tuple(images.decode(item).shape) for item in tokens}
    assert sizes == {"0.png": (3, 16, 16), "wide.png": (3, 17, 22)}
    whole = tokcli.load_tokens(str(GROUND / "image-fsp" / "tokens.npy"))
    assert images.decode(whole.array()).shape == (3, 3, 16, 16)


def test_several_tokens_at_a_position_are_the_last_axis(tiny: str) -> None:
    text = tiny.replace("{kind: fsp, levels: [4, 3, 3]}", "{kind: tokenbridge, dim: 8, bins: 16}")
    recipe = from_text(text.replace("latent_dim: 3", "latent_dim: 16, decoder_dim: 8"), "tiny.yaml")
    module = build_tokenizer(recipe).eval()
    tokenizer = LoadedTokenizer(Artifact(module, recipe, "raw"), pathlib.Path("built"))
    with pytest.raises(UsageError, match="the tokenizer built has no codebook yet; run: tok build-codebook built"):
        tokenizer.encode(picture(16, 16))
    module.quantizer.build_codebook(torch.randn(500, 16))
    tokens = tokenizer.encode(picture(16, 16))
    assert tokens.shape[-1] == tokenizer.groups == 8
    assert tokenizer.decode(tokens).shape == (3, 16, 16)
    with pytest.raises(MismatchError, match=r"expected \(height, width, 8\)"):
        tokenizer.decode(tokens[..., :4])


def test_what_was_decoded_is_saved_in_the_formats_of_its_modality(images, sounds, tmp_path) -> None:
    images.save(images.decode(images.encode(picture())), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (12, 16)
    sounds.save(sounds.decode(sounds.encode(torch.zeros(480))), str(tmp_path / "a.flac"))
    assert soundfile.info(tmp_path / "a.flac").frames == 480
    with pytest.raises(UsageError, match="images are written as png, jpg or webp"):
        images.save(torch.zeros(3, 4, 4), tmp_path / "a.bmp")


def test_one_exception_catches_all_that_a_user_can_mend(images) -> None:
    for wrong in (
        lambda: tokcli.load("nothing"),
        lambda: images.encode(torch.zeros(1, 2)),
        lambda: images.decode([[99]]),
    ):
        with pytest.raises(TokError):
            wrong()
