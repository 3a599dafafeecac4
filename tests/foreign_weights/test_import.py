"""Published checkpoints become tokenizers of ours that compute what their own networks compute."""

import argparse
import json
import os
import sys
import types

import pytest
import torch
from publishers import LlamaGen, Taming, TamingWithoutLevels
from safetensors.torch import save_file
from torch import Tensor

from tokcli.artifacts import load_artifact
from tokcli.errors import InputError, MismatchError, TokError
from tokcli.foreign_weights import convert, read_weights

SMALL = {"widths": [128, 128], "blocks": 1, "features": 12, "latents": 12, "codes": 40}
CASES = {"llamagen": (LlamaGen, SMALL | {"latents": 8}), "taming": (Taming, SMALL)}
CLOSE = 1e-5


def make(publisher: str, **changes: object) -> LlamaGen:
    network, shape = CASES[publisher]
    return fill(network(**(shape | changes)))


def fill(network: LlamaGen) -> LlamaGen:
    """Random weights whose norms and codes say something too, so that no tensor is like another."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.named_parameters():
        drawn = torch.randn(value.shape, generator=generator)
        if value.dim() == 4:
            value.data = drawn / value[0].numel() ** 0.5
        elif name.endswith("weight"):
            value.data = drawn if "embedding" in name else 1 + 0.1 * drawn
        else:
            value.data = 0.1 * drawn
    network = network.eval().requires_grad_(False)
    # Codes where latents are: a random network's own lie close together, and would all have one token.
    rows = network.latents(images(64, 1)).movedim(1, -1).flatten(0, -2)
    codes = network.quantize.embedding.weight
    drawn = torch.randn(codes.shape, generator=generator)
    codes.copy_(rows[torch.arange(len(codes)) % len(rows)] + 0.1 * rows.std(0) * drawn)
    return network


def images(side: int = 8, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def assert_equal(theirs: LlamaGen, ours, signals: Tensor) -> None:
    latents = theirs.latents(signals).movedim(1, -1)
    assert (ours.autoencoder.encode(signals) - latents).abs().max() < CLOSE
    tokens = theirs.tokens(signals)
    assert torch.equal(ours.encode(signals)[..., 0], tokens)
    assert len(tokens.unique()) > min(8, tokens.numel() // 3)
    decoded = theirs.decode(tokens)
    assert decoded.std() > 0.1
    assert (ours.decode(tokens[..., None], signals.shape[2:]) - decoded).abs().max() < CLOSE


@pytest.mark.parametrize("publisher", CASES)
def test_an_imported_network_gives_its_publishers_tokens_and_pictures(tmp_path, publisher: str) -> None:
    theirs = make(publisher)
    imported = convert(tmp_path / "x.pt", theirs.state_dict(), publisher)
    assert imported.tensors == len(theirs.state_dict())
    assert_equal(theirs, imported.tokenizer, images())


@pytest.mark.parametrize(
    ("publisher", "changes"),
    [
        ("llamagen", {"widths": [128, 128, 256], "features": 5, "latents": 3}),
        ("taming", {"widths": [128], "latents": 7}),
        ("taming", {"widths": [128, 128, 128]}),
    ],
)
def test_widths_levels_and_blocks_are_read_from_the_shapes(tmp_path, publisher: str, changes: dict) -> None:
    theirs = make(publisher, **changes)
    ours = convert(tmp_path / "x.pt", theirs.state_dict(), publisher)
    assert_equal(theirs, ours.tokenizer, images(16))
    assert ours.tokenizer.autoencoder.stride == 2 ** (len(changes["widths"]) - 1)


def test_attention_may_be_between_the_levels_alone(tmp_path) -> None:
    theirs = fill(TamingWithoutLevels(**SMALL))
    ours = convert(tmp_path / "x.pt", theirs.state_dict(), "taming")
    assert ours.recipe.autoencoder["attention"] == "middle"
    assert_equal(theirs, ours.tokenizer, images())


@pytest.mark.slow
@pytest.mark.parametrize("publisher", CASES)
def test_the_published_width_is_the_published_network(tmp_path, publisher: str) -> None:
    latents, codes = (8, 16384) if publisher == "llamagen" else (256, 1024)
    widths = [128, 128, 256, 256, 512]
    theirs = make(publisher, widths=widths, blocks=2, features=256, latents=latents, codes=codes)
    ours = convert(tmp_path / "x.pt", theirs.state_dict(), publisher)
    network, signals = ours.tokenizer.autoencoder, images(64, 1)
    assert network.stride == 16
    tokens = theirs.tokens(signals)
    assert torch.equal(ours.tokenizer.encode(signals)[..., 0], tokens)
    # So many layers in another order of sums differ by 1.2e-5 in float32; in float64 they are the same function.
    difference = ours.tokenizer.decode(tokens[..., None], signals.shape[2:]) - theirs.decode(tokens)
    assert difference.abs().max() < 3e-5
    theirs, network, signals = theirs.double(), network.double(), signals.double()
    assert (network.encode(signals) - theirs.latents(signals).movedim(1, -1)).abs().max() < 1e-12
    assert (network.decode(theirs.codes()[tokens]) - theirs.decode(tokens)).abs().max() < 1e-12


def save(path, publisher: str, **beside: object):
    weights = make(publisher).state_dict()
    torch.save({"state_dict" if publisher == "taming" else "model": weights, **beside}, path)
    return weights


@pytest.mark.parametrize("publisher", CASES)
def test_an_artifact_is_made_that_says_what_is_not_known(tok, tmp_path, publisher: str) -> None:
    save(tmp_path / "vq_ds2.pt", publisher)
    told = tok("import", "vq_ds2.pt", "--as", publisher, "-o", "m.safetensors", "--json")
    assert told.code == 0, told.err
    assert told.json["licence"] == "unknown"
    artifact = load_artifact("m.safetensors")
    assert_equal(make(publisher), artifact.tokenizer, images())
    known = tok("info", "m.safetensors", "--json").json
    assert (known["trained_on"], known["licence"]) == ("unknown", "unknown")
    assert known["imported"] == {"publisher": publisher, "file": "vq_ds2.pt", "sha256": told.json["sha256"]}
    assert "unknown" in tok("info", "m.safetensors").out
    pytest.importorskip("huggingface_hub")
    assert "records no licence" in tok("push", "m.safetensors", "you/x", "--dry-run").err
    shared = tok("push", "m.safetensors", "you/x", "--licence", "mit", "--dry-run", "--json").json
    assert f"Weights of {publisher}, imported into tok; what they were trained on is unknown." in shared["card"]


def test_an_imported_artifact_goes_wherever_a_model_goes(tok, tmp_path, photos, monkeypatch) -> None:
    monkeypatch.setattr("tokcli.foreign_weights.conversion.USUAL_SIZE", 16)
    save(tmp_path / "v.pt", "llamagen")
    assert tok("import", "v.pt", "--as", "llamagen", "-o", "m.safetensors", "--quiet").code == 0
    common = ("-m", "m.safetensors", "--quiet")
    for line in (
        ("encode", "photos", "-o", "t.npy", *common),
        ("decode", "t.npy", "-o", "out", "-m", "m.safetensors", "--quiet"),
        ("decode", "t.npy", "-o", "found", "-m", "m.safetensors", "--quiet", "--json"),
        ("export", "t.npy", "--to", "jsonl", "-o", "t.jsonl", "--labels", "none", "--quiet"),
        ("eval", "m.safetensors", "--data", "photos", "--metrics", "psnr,cvu", "--quiet"),
        ("build-codebook", "m.safetensors", "--data", "photos", "--size", "16", "-o", "built.safetensors", "--quiet"),
    ):
        outcome = tok(*line)
        assert outcome.code == 0, (line, outcome.err)
    built = load_artifact("built.safetensors")
    assert built.tokenizer.codebook_size == 16
    assert built.training["imported"]["publisher"] == "llamagen"
    refused = tok("eval", "m.safetensors")
    assert refused.code == 3
    assert "judge on other data with --data FOLDER" in refused.err


def test_an_imported_artifact_can_be_tuned(tok, tmp_path) -> None:
    save(tmp_path / "v.pt", "taming")
    assert tok("import", "v.pt", "--as", "taming", "-o", "m.safetensors", "--licence", "mit", "--quiet").code == 0
    known = tok("info", "m.safetensors", "--json").json
    assert known["licence"] == "mit"
    (tmp_path / "tune.yaml").write_text(json.dumps(known["recipe"]))
    data = [f"data.{part}={{kind: dead-leaves, items: 4, size: 8}}" for part in ("train", "eval")]
    short = ["training.steps=1", "training.batch_size=1", "training.workers=0", "evaluation.metrics=[psnr]"]
    outcome = tok("train", "tune.yaml", *data, *short, "--init-from", "m.safetensors", "-o", "tuned", "--json")
    assert outcome.code == 0, outcome.err
    before, after = load_artifact("m.safetensors"), load_artifact("tuned")
    change = after.tokenizer.autoencoder.encode(images()) - before.tokenizer.autoencoder.encode(images())
    assert 0 < change.abs().max() < 0.1


def test_an_imported_network_can_have_another_quantizer(tok, tmp_path) -> None:
    save(tmp_path / "v.pt", "taming")
    assert tok("import", "v.pt", "--as", "taming", "-o", "m.safetensors", "--quiet").code == 0
    recipe = tok("info", "m.safetensors", "--json").json["recipe"]
    (tmp_path / "tune.yaml").write_text(json.dumps(recipe))
    overrides = [f"data.{part}={{kind: dead-leaves, items: 4, size: 8}}" for part in ("train", "eval")]
    overrides += ["training.steps=1", "training.batch_size=1", "training.workers=0", "evaluation.metrics=[psnr]"]
    overrides += [f"quantizer={{kind: simvq, dim: {recipe['quantizer']['dim']}, codebook_size: 8}}"]
    outcome = tok("train", "tune.yaml", *overrides, "--init-from", "m.safetensors", "-o", "other")
    assert outcome.code == 0, outcome.err
    assert "is another one, so that of the recipe begins anew" in outcome.err
    assert load_artifact("other").tokenizer.codebook_size == 8


def test_too_little_memory_is_not_the_files_fault(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "t.ckpt", "taming")

    def fail(*arguments: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        read_weights(tmp_path / "t.ckpt")


def test_what_lies_beside_the_weights_is_left_out(tmp_path) -> None:
    beside = {"optimizer_states": [{"state": {0: torch.ones(3)}}], "epoch": 3, "args": argparse.Namespace(lr=1.0)}
    weights = save(tmp_path / "t.ckpt", "taming", **beside)
    assert read_weights(tmp_path / "t.ckpt").keys() == weights.keys()
    more = weights | {
        "loss.discriminator.main.0.weight": torch.ones(2),
        "loss.perceptual_loss.lin0.weight": torch.ones(1),
    }
    assert convert(tmp_path / "t.ckpt", more, "taming").ignored == 2
    used = make("llamagen").state_dict() | {"quantize.codebook_used": torch.zeros(7)}
    assert convert(tmp_path / "l.pt", used, "llamagen").ignored == 1
    averaged = {name: value + 1 for name, value in weights.items()}
    save(tmp_path / "e.pt", "llamagen", ema=averaged)
    assert torch.equal(read_weights(tmp_path / "e.pt")["quant_conv.bias"], averaged["quant_conv.bias"])


def test_a_class_that_lightning_mentions_is_not_needed(tmp_path, monkeypatch) -> None:
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    parents = ("pytorch_lightning", "pytorch_lightning.callbacks")
    with monkeypatch.context() as there:
        for each in (*parents, name):
            there.setitem(sys.modules, each, module if each == name else types.ModuleType(each))
        save(tmp_path / "last.ckpt", "taming", callbacks={module.ModelCheckpoint: {"best": torch.ones(1)}})
    assert convert(tmp_path / "last.ckpt", read_weights(tmp_path / "last.ckpt"), "taming").ignored == 0


def test_safetensors_and_halves_are_read_too(tmp_path) -> None:
    weights = make("llamagen").state_dict()
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "half.safetensors")
    ours = convert(tmp_path / "half.safetensors", read_weights(tmp_path / "half.safetensors"), "llamagen").tokenizer
    assert {value.dtype for value in ours.parameters()} == {torch.float32}
    assert (ours.autoencoder.down_projection.bias - weights["quant_conv.bias"]).abs().max() < 1e-3


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("run",)


@pytest.mark.parametrize("old", [False, True])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tok, tmp_path, old: bool) -> None:
    weights = {"model": {"a": torch.ones(1)}, "more": Malicious()}
    torch.save(weights, tmp_path / "bad.pt", _use_new_zipfile_serialization=not old)
    told = tok("import", "bad.pt", "--as", "llamagen", "-o", "m.safetensors")
    assert told.code == 4
    assert "bad.pt holds more than weights: opening it would run posix.mkdir, which is never done" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt"]


def change(weights: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    changes = {
        "lacks": {name: value for name, value in weights.items() if name != "decoder.conv_out.bias"},
        "has too many": weights | {"encoder.more.weight": torch.ones(1)},
        "shape": weights | {"encoder.conv_out.bias": torch.ones(5)},
        "gumbel": weights | {"quantize.embed.weight": torch.ones(4, 4)},
        "no codebook": {name: value for name, value in weights.items() if "embedding" not in name},
        "channels": weights | {"encoder.conv_in.weight": torch.ones(128, 1, 3, 3)},
        "not finite": weights | {"quant_conv.bias": torch.full((12,), float("nan"))},
        "integers": weights | {"quant_conv.bias": torch.ones(12, dtype=torch.int64)},
        "another axis": weights | {"encoder.conv_in.weight": torch.ones(3)},
        "other names": {"unet." + name: value for name, value in weights.items()},
        "enormous": weights | {"encoder.down.0.block.0.conv1.weight": torch.ones(1 << 20, 1, 1, 1)},
    }
    return changes[how]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("lacks", r"does not fit: it lacks 1 tensor: decoder\.conv_out\.bias$"),
        ("has too many", r"it has too many 1 tensor: encoder\.more\.weight$"),
        ("shape", r"another shape 1 tensor: encoder\.conv_out\.bias \[5\] in the place of \[12\]$"),
        ("gumbel", r"is a Gumbel VQGAN: its encoder gives a score for each code"),
        ("no codebook", r"has no codebook \(quantize\.embedding\.weight\): it is no discrete tokenizer"),
        ("channels", r"reads pictures of 1 channels; only those of 3 are imported"),
        ("not finite", r"quant_conv\.bias holds values that are not finite"),
        ("integers", r"quant_conv\.bias is of int64, strided; expected weights of floating point"),
        ("another axis", r"encoder\.conv_in\.weight is \[3\], which is no such tensor's shape"),
        ("other names", r"it lacks encoder\.conv_in\.weight, .*; its names begin 'unet\."),
        ("enormous", r"asks for more layers than it holds tensors for"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_names(tmp_path, how: str, words: str) -> None:
    weights = change(make("taming").state_dict(), how)
    with pytest.raises(MismatchError, match=words):
        convert(tmp_path / "x.ckpt", weights, "taming")


def test_names_of_the_other_publisher_are_recognised(tmp_path) -> None:
    with pytest.raises(MismatchError, match=r"its names are those of the VQGANs of taming-transformers: --as taming$"):
        convert(tmp_path / "x.ckpt", make("taming").state_dict(), "llamagen")


def test_narrow_networks_are_refused(tmp_path) -> None:
    with pytest.raises(MismatchError, match="has a layer of 64 channels, too few for 32 groups of at least 4"):
        convert(tmp_path / "x.pt", make("taming", widths=[64, 128]).state_dict(), "taming")


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, InputError, "cannot be opened: No such file"),
        (b"", MismatchError, "is no whole file of weights that torch reads"),
        (b"hello", MismatchError, "is no whole file of weights that torch reads"),
        (slice(0, 5000), MismatchError, "is no whole file of weights that torch reads"),
        (
            {"epoch": 3},
            MismatchError,
            "holds no weights under ema, model, state_dict, nor by themselves; it holds 'epoch'",
        ),
        ([1, 2], MismatchError, "holds 'list'; expected tensors by their names"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, error: type[TokError], words: str) -> None:
    path = tmp_path / "x.pt"
    if isinstance(content, slice):
        save(path, "taming")
        path.write_bytes(path.read_bytes()[content])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(error, match=words):
        read_weights(path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("x.pt", "--as", "magvit", "-o", "m.safetensors"), 2, "--as: no weights are known as 'magvit'"),
        (("no.pt", "--as", "taming", "-o", "m.safetensors"), 3, "no.pt: the file cannot be opened"),
        (("x.pt", "--as", "taming", "-o", "there.safetensors"), 2, "there.safetensors is there; --force overwrites it"),
        (("x.pt", "--as", "taming", "-o", "m.npy"), 2, "m.npy: expected a name that ends in .safetensors"),
        (("x.pt", "--as", "taming", "-o", "x.pt/m.safetensors"), 1, "x.pt"),
        (
            ("x.pt", "--as", "taming", "-o", "m.safetensors", "--grid", "4x4"),
            2,
            "--grid goes with tokens, not with --as",
        ),
        (("x.pt", "-o", "tokens.npy"), 2, "x.pt looks like weights; say whose: --as llamagen or --as taming"),
        (("x.npy", "-o", "t.npy", "--licence", "mit"), 2, "--licence goes with weights"),
        (("there.safetensors", "--as", "taming", "-o", "there.safetensors"), 2, "is the file that is imported"),
    ],
)
def test_lines_that_cannot_be_meant(tok, tmp_path, arguments, code: int, words: str) -> None:
    (tmp_path / "x.pt").write_bytes(b"weights")
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    told = tok("import", *arguments)
    assert (told.code, words in told.err) == (code, True), told.err
    assert (tmp_path / "there.safetensors").read_bytes() == b"kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.safetensors", "x.pt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(tok, tmp_path) -> None:
    save(tmp_path / "x.pt", "taming")
    (tmp_path / "closed").mkdir(mode=0o500)
    told = tok("import", "x.pt", "--as", "taming", "-o", "closed/m.safetensors")
    assert told.code == 1
    assert "closed/m.safetensors" in told.err
