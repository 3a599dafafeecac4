"""Every key that a recipe can have is explained, from where it is written once: the constructor."""

import pytest

from tokcli.errors import UsageError
from tokcli.recipe.explanation import PARTS, SETTINGS, Argument, describe_type, explain
from tokcli.recipe.recipe import from_text
from tokcli.schema import Codes, Count, OpenShare, Share
from tokcli.spelling import nearest


@pytest.mark.parametrize("section", PARTS)
def test_every_argument_of_every_part_has_a_meaning_and_its_values(section: str) -> None:
    for kind in PARTS[section]:
        (found,) = explain(section, kind)
        assert found.summary
        for argument in found.arguments:
            assert argument.meaning, f"{kind}.{argument.name} has no meaning in a docstring"
            assert argument.values != "any value", f"{kind}.{argument.name}"


@pytest.mark.parametrize("section", SETTINGS)
def test_every_setting_has_a_meaning(section: str) -> None:
    (found,) = explain(section)
    assert all(argument.meaning and argument.values != "any value" for argument in found.arguments)


def test_a_range_is_told_as_the_signature_has_it() -> None:
    assert describe_type(Count) == "a whole number, 1 or more"
    assert describe_type(Share) == "a number, 0 to 1"
    assert describe_type(OpenShare | None) == "a number, more than 0 and less than 1 or null"
    assert describe_type(list[Codes]) == "a list, each a whole number, 2 or more"


def test_a_key_is_explained_alone() -> None:
    (found,) = explain("training.learning_rate")
    assert found.arguments == [
        Argument("learning_rate", "a number, more than 0", "0.0001", "of the optimizer, after warm-up.")
    ]
    assert {each.name for each in explain("quantizer.codebook_size")} == {"vq", "simvq", "vaevq", "vpvae", "nsvq"}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("quantiser",), "did you mean 'quantizer'"),
        (("quantizer", "fps"), "did you mean 'fsp'"),
        (("training.lr",), "did you mean 'learning_rate'"),
        (("quantizer.nothing",), "no quantizer takes 'nothing'"),
    ],
)
def test_a_wrong_place_gets_the_nearest(place: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        explain(*place)


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("lr", ["steps", "learning_rate", "decay"], "learning_rate"),
        ("beta", ["eta", "commitment"], "commitment"),
        ("commit", ["codebook_size", "commitment"], "commitment"),
        ("image-small-fps", ["image-small-fsq", "image-small-fsp"], "image-small-fsp"),
        ("K", ["dim", "codebook_size"], "codebook_size"),
    ],
)
def test_what_others_call_it_is_understood(word: str, known: list[str], meant: str) -> None:
    assert nearest(word, known) == f"did you mean '{meant}'?"


def test_the_width_of_the_latents_is_said_once(tiny: str) -> None:
    """What was left out is written as if it had been said, so fingerprints are of the whole recipe."""
    said = from_text(tiny, "r", ["quantizer={kind: vq, dim: 3, codebook_size: 8}"])
    assert from_text(tiny, "r", ["quantizer={kind: vq, codebook_size: 8}"]).fingerprint() == said.fingerprint()
    without = tiny.replace("latent_dim: 3, ", "")
    assert from_text(without, "r").fingerprint() == from_text(tiny, "r").fingerprint()
    narrow = from_text(tiny, "r", ["quantizer={kind: tokenbridge, bins: 4}", "autoencoder.latent_dim=6"])
    assert (narrow.quantizer["dim"], narrow.autoencoder["decoder_dim"]) == (3, 3)


def test_errors_point_to_the_explanation(tok, tiny: str, tmp_path) -> None:
    (tmp_path / "r.yaml").write_text(tiny)
    outcome = tok("train", "r.yaml", "quantizer.levles=[3]")
    assert (outcome.code, "(tok recipes explain quantizer fsp lists its keys)" in outcome.err) == (2, True), outcome.err
    outcome = tok("train", "r.yaml", "training.lr=1e-3")
    assert "did you mean 'learning_rate'?" in outcome.err
    assert "(tok recipes explain training lists its keys)" in outcome.err
    told = tok("recipes", "explain", "quantizer", "fsp").out
    assert "needed" in told
    assert tok("recipes", "explain", "quantizer", "fsp", "--json").json[0]["arguments"][0]["name"] == "levels"


def test_a_sweep_and_a_recipe_are_told_apart(tok, tiny: str, tmp_path) -> None:
    (tmp_path / "compare.yaml").write_text("columns: [psnr]\nmethods:\n  a: {recipe: quickstart}\n")
    (tmp_path / "r.yaml").write_text(tiny)
    for arguments, words in [
        (["train", "compare.yaml"], "compare.yaml is a sweep, and no recipe: tok sweep compare.yaml"),
        (["sweep", "r.yaml"], "r is a recipe, and no sweep: give it to tok train"),
        (["train", "vaevq-figure7"], "'vaevq-figure7' is a sweep: tok sweep vaevq-figure7"),
        (["sweep", "quickstart"], "'quickstart' is a recipe: tok train quickstart"),
    ]:
        outcome = tok(*arguments)
        assert (outcome.code in (2, 3), words in outcome.err) == (True, True), outcome.err


def test_the_guided_list_fits_a_small_terminal(tok, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = tok("recipes").out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    assert "start here" in lines[0]
    assert any("image-small-{fsq, " in line for line in lines)
    assert "photo, speech, speech-noise" in " ".join(lines)
