"""Every mistake in a recipe is found, all in one go, with its path and the nearest name."""

import pytest

from tokcli.errors import InputError, RecipeError
from tokcli.recipe.build import build_evaluation_source, build_losses, build_tokenizer, build_training_source
from tokcli.recipe.recipe import from_dict, from_text
from tokcli.recipe.shipped import find_recipe_text
from tokcli.recipe.text import parse


def problems_of(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        from_text(text, "r.yaml", overrides)
    return str(caught.value).splitlines()


def test_three_typos_are_reported_together(tiny: str) -> None:
    text = tiny.replace("levels", "levles").replace("learning_rate", "lerning_rate").replace("kind: l1", "kind: msse")
    assert problems_of(text) == [
        "quantizer.levels: 'fsp' needs this argument",
        "quantizer.levles: 'fsp' takes no such argument; did you mean 'levels'?",
        "losses.0.kind: there is no loss 'msse'; did you mean 'mse'?",
        "training.lerning_rate: training takes no such argument; did you mean 'learning_rate'?",
    ]


def test_an_unknown_section_and_a_missing_one_are_named(tiny: str) -> None:
    found = problems_of(tiny.replace("training:", "traning:"))
    assert "traning: a recipe has no such section; did you mean 'training'?" in found
    assert "training: a recipe needs this section" in found


def test_a_wrong_type_says_what_was_received(tiny: str) -> None:
    assert problems_of(tiny, "training.steps=many") == ["training.steps: input should be a valid integer, got 'many'"]


def test_values_out_of_range_are_reported_together(tiny: str) -> None:
    assert problems_of(
        tiny,
        "training.steps=0",
        "training.learning_rate=-1",
        "training.betas=[1]",
        "training.ema_decay=.nan",
        "losses.0.weight=-1",
        "autoencoder.width=0",
        "evaluation.items=0",
    ) == [
        "autoencoder.width: expected 1 or more, got 0",
        "losses.0.weight: expected 0 or more, got -1",
        "training.steps: expected 1 or more, got 0",
        "training.learning_rate: expected more than 0, got -1",
        "training.betas.0: expected less than 1, got 1",
        "training.ema_decay: expected a finite number, got nan",
        "evaluation.items: expected 1 or more, got 0",
    ]


def test_settings_that_do_not_fit_each_other_carry_their_path(tiny: str) -> None:
    assert problems_of(tiny, "training.batch_size=5", "training.accumulate=2", "adversary={lead_steps: 3}") == [
        "training.batch_size: 5 does not divide into 2 micro-batches",
        "adversary.lead_steps: expected at most start_step (0), got 3",
    ]


def test_a_value_out_of_range_carries_its_path(tiny: str) -> None:
    assert problems_of(tiny, "training.steps=0") == ["training.steps: expected 1 or more, got 0"]


def test_an_unknown_metric_gets_the_nearest(tiny: str) -> None:
    found = problems_of(tiny, "evaluation.metrics=[psnr, sim]")
    assert found == ["evaluation.metrics: there is no metric 'sim'; did you mean 'ssim'?"]


def test_a_best_that_is_not_measured_is_refused(tiny: str) -> None:
    assert problems_of(tiny, "evaluation.best=lpips") == [
        "evaluation.best: 'lpips' is not among the metrics: psnr, usage, cvu"
    ]


def test_both_parts_and_their_meeting_are_checked(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["autoencoder.latent_dim=5"])
    with pytest.raises(RecipeError) as caught:
        build_tokenizer(recipe)
    lines = str(caught.value).splitlines()
    assert lines == [
        "autoencoder.latent_dim: the encoder gives 5 channels, but the quantizer reads 3; "
        "set autoencoder.latent_dim=3, or give the quantizer 5 levels"
    ]


def test_a_value_that_a_constructor_refuses_carries_its_path(tiny: str) -> None:
    """A rule between two arguments, which no annotation can say."""
    recipe = from_text(tiny, "r.yaml", ["quantizer={kind: fsq, levels: [4, 3, 3], noise: 0.5}"])
    with pytest.raises(RecipeError, match=r"^quantizer: .*noise.* needs variant: symmetric"):
        build_tokenizer(recipe)


def test_a_loss_that_stands_twice_is_refused(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["losses=[{kind: l1}, {kind: l1}]"])
    with pytest.raises(RecipeError, match=r"losses\.1: 'l1' stands twice"):
        build_losses(recipe, "image")


def test_data_of_another_sample_rate_is_refused(tiny: str) -> None:
    recipe = from_text(tiny, "tiny", ["data.train.kind=synthetic-voices"])
    with pytest.raises(RecipeError, match=r"^data\.train\.sample_rate: 'synthetic-voices' gives 16000 Hz, the autoenc"):
        build_training_source(recipe, "audio", 24_000)
    assert build_training_source(recipe, "audio", 16_000).sample_rate == 16_000


def test_a_loss_for_another_sample_rate_is_refused(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["losses=[{kind: l1}, {kind: mel}]"])
    assert set(build_losses(recipe, "audio", 16_000)) == {"l1", "mel"}
    with pytest.raises(RecipeError, match=r"losses\.1: 'mel' is for 16000 Hz, the recipe trains at 24000 Hz"):
        build_losses(recipe, "audio", 24_000)


def test_a_missing_folder_says_how_to_set_it(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["data.train={kind: images, path: nowhere}"])
    with pytest.raises(InputError, match=r"data\.train: .*'nowhere'.*set it with data\.train\.path=FOLDER"):
        build_training_source(recipe, "image")
    recipe = from_text(tiny, "r.yaml", ["data.eval={kind: images, path: nowhere}"])
    with pytest.raises(InputError, match=r"data\.eval: .*'nowhere'.* data\.eval\.path=FOLDER, or .*=val\.txt$"):
        build_evaluation_source(recipe, "image")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.steps", "expected an override as key.path=value"),
        ("trainig.steps=1", "the recipe has no 'trainig'; did you mean 'training'?"),
        ("losses.3.weight=1", "the recipe has no 'losses.3'"),
        ("training.stepz=1", "training.stepz: training takes no such argument; did you mean 'steps'?"),
        ("name=a/b", "plain file name"),
    ],
)
def test_a_bad_override_is_explained(tiny: str, override: str, words: str) -> None:
    assert any(words in problem for problem in problems_of(tiny, override))


def test_overrides_reach_lists_numbers_and_absent_sections(tiny: str) -> None:
    recipe = from_text(
        tiny, "r.yaml", ["losses.0.weight=2", "training.learning_rate=3e-4", "quantizer.levels=[4,4,4]", "seed=7"]
    )
    assert recipe.losses[0]["weight"] == 2
    assert recipe.training.learning_rate == pytest.approx(3e-4)
    assert recipe.quantizer["levels"] == [4, 4, 4]
    assert recipe.seed == 7
    assert from_text(tiny, "r.yaml", ["codebook.samples=10"]).codebook.samples == 10


def test_the_resolved_recipe_reads_back_as_itself(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml")
    again = from_dict(parse(recipe.to_yaml(), "resolved.yaml"))
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert from_text(tiny, "r.yaml", ["seed=1"]).fingerprint() != recipe.fingerprint()


def test_a_default_written_out_is_the_same_recipe(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml")
    written = from_text(tiny, "r.yaml", ["quantizer.activation=tanh", "autoencoder.decoder_dim=null"])
    assert recipe.quantizer["activation"] == "tanh"
    assert written.fingerprint() == recipe.fingerprint()
    assert from_text(tiny, "r.yaml", ["quantizer.activation=normal"]).fingerprint() != recipe.fingerprint()


def test_a_discriminator_has_its_defaults_written_out_too(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["adversary={discriminator: {kind: patchgan, width: 8}}"])
    discriminator = recipe.to_dict()["adversary"]["discriminator"]
    assert discriminator["width"] == 8
    assert len(discriminator) > 2


def test_a_recipe_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecipeError, match="expected a recipe with name"):
        from_text("- a\n- b\n", "r.yaml")


def test_unknown_recipes_get_the_nearest_name() -> None:
    with pytest.raises(InputError, match="there is no recipe 'quikstart'; did you mean 'quickstart'"):
        find_recipe_text("quikstart")
    with pytest.raises(InputError, match=r"there is no recipe file mine\.yaml"):
        find_recipe_text("mine.yaml")
