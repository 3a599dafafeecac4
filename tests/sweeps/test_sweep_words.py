"""A sweep file: every mistake in one go, and the cells that it stands for."""

import pathlib

import pytest

from tokcli.errors import RecipeError, UsageError
from tokcli.sweeps.cells import Cell, apply_choices, list_rows, make_cells
from tokcli.sweeps.plan import Sweep, read_sweep

RUNS = pathlib.Path("runs")
TEXT = """# A table.
columns: [psnr, cvu]
seeds: [0, 1]
sizes: [36, 64]
overrides: [training.batch_size=8]
methods:
  fsp: {recipe: tiny.yaml, by_size: {36: [], 64: ["quantizer.levels=[4,4,4]"]}}
  vpvae:
    recipe: tiny.yaml
    overrides: ["quantizer={kind: vpvae, dim: 3, codebook_size: 36}"]
    codebooks: [36, 64]
evaluate:
  leaves: {kind: dead-leaves, items: 4, size: 24, seed: 9}
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_the_recipe(tiny: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    monkeypatch.chdir(tmp_path)


def sweep(text: str = TEXT) -> Sweep:
    return read_sweep(text, "t")


def problems_of(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        sweep(text)
    return str(caught.value).splitlines()


def test_a_grid_has_a_training_for_each_size_or_one_for_several_codebooks() -> None:
    found = [(cell.method, cell.size, cell.seed) for cell in make_cells(sweep(), RUNS)]
    assert found == [
        ("fsp", 36, 0),
        ("fsp", 36, 1),
        ("fsp", 64, 0),
        ("fsp", 64, 1),
        ("vpvae", None, 0),
        ("vpvae", None, 1),
    ]
    assert list(list_rows(sweep())) == [("fsp", 36), ("fsp", 64), ("vpvae", 36), ("vpvae", 64)]


def test_a_cell_is_the_recipe_with_all_overrides_the_last_word_being_the_users() -> None:
    cell = make_cells(sweep(), RUNS, ["training.batch_size=2", "training.steps=9"])[2]
    assert cell.recipe.quantizer["levels"] == [4, 4, 4]
    assert (cell.recipe.training.batch_size, cell.recipe.training.steps, cell.recipe.seed) == (2, 9, 0)
    assert cell.command == (
        "tok train tiny.yaml training.batch_size=8 'quantizer.levels=[4,4,4]' training.batch_size=2 training.steps=9 "
        "seed=0"
    )


def test_codebooks_are_built_by_the_training_and_each_is_judged_on_all_data() -> None:
    cell = make_cells(sweep(), RUNS)[4]
    assert cell.recipe.codebook is not None
    assert cell.recipe.codebook.sizes == [36, 64]
    assert [(judging.name, judging.codebook) for judging in cell.further] == [
        ("in domain", 36),
        ("leaves", 36),
        ("in domain", 64),
        ("leaves", 64),
    ]
    assert len({judging.key for judging in cell.further}) == 4


def test_a_changed_recipe_is_another_folder_and_an_unchanged_one_the_same() -> None:
    def folders(*overrides: str) -> list[str]:
        return [cell.path.name for cell in make_cells(sweep(), RUNS, overrides)]

    assert folders() == folders()
    assert not set(folders()) & set(folders("training.steps=9"))
    assert folders()[0].startswith("fsp-36-seed0-")
    assert len(set(folders())) == 6


def test_a_command_line_chooses_cells_and_points_further_data_elsewhere() -> None:
    plan, rest = apply_choices(
        sweep(), ["seeds=[5]", "sizes=[64]", "methods=[fsp]", "evaluate.leaves.items=7", "training.steps=3"]
    )
    assert rest == ["training.steps=3"]
    (cell,) = make_cells(plan, RUNS, rest)
    assert (cell.method, cell.size, cell.seed, cell.further[0].data["items"]) == ("fsp", 64, 5, 7)
    assert list(list_rows(apply_choices(sweep(), ["sizes=[64]"])[0])) == [("fsp", 64), ("vpvae", 64)]


def test_a_table_says_which_overrides_hold() -> None:
    plan, rest = apply_choices(sweep(), ["training.batch_size=2"])
    assert (plan.overrides, rest) == ([], ["training.batch_size=2"])
    cells = make_cells(plan, RUNS, rest), make_cells(sweep(), RUNS, rest)
    assert [cell.path for cell in cells[0]] == [cell.path for cell in cells[1]]
    assert "training.batch_size=8" not in cells[0][0].command
    assert apply_choices(sweep(), ["training.steps=3"])[0].overrides == ["training.batch_size=8"]


def test_a_command_line_adds_further_data() -> None:
    node = {"kind": "dead-leaves", "items": 2, "size": 24, "seed": 4}
    plan, rest = apply_choices(sweep(), ["evaluate.more={kind: dead-leaves, items: 2, size: 24, seed: 4}"])
    assert rest == []
    cell = make_cells(plan, RUNS)[0]
    assert [(judging.name, judging.data) for judging in cell.further][1] == ("more", node)
    assert cell.path == make_cells(sweep(), RUNS)[0].path  # further data is no reason to train again
    with pytest.raises(RecipeError, match=r"evaluate\.more.*'leaves'"):
        apply_choices(sweep(), ["evaluate.more={kind: leaves, items: 2}"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sizes=[65]", "the sweep has no '65'; expected one of: 36, 64"),
        ("methods=[fps]", "the sweep has no 'fps'; did you mean 'fsp'?"),
        ("seeds=3", r"expected a list such as seeds=\[0, 1\], got 3"),
        ("evaluate.leafs.items=3", "expected one such as evaluate.leaves.path=FOLDER, evaluate.NAME={kind: images, "),
    ],
)
def test_a_choice_that_the_sweep_does_not_have_is_explained(override: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        apply_choices(sweep(), [override])


def test_all_mistakes_of_a_sweep_are_reported_together() -> None:
    text = (
        TEXT.replace("[psnr, cvu]", "[pnsr, cvu]")
        .replace("seeds:", "sedes:")
        .replace("64: [", "65: [")
        .replace("dead-leaves", "dead-leafs")
        + "claims: [{claim: c, metric: psnr, greater: fsq, than: fsp}]\n"
        + "published: {setting: s, metrics: [psnr, cvu], figures: {fsp: {36: [1]}}, out_of_domain: {laeves: {}}}\n"
    )
    assert problems_of(text) == [
        "sedes: a sweep takes no such argument; did you mean 'seeds'?",
        "columns: there is no metric 'pnsr'; did you mean 'psnr'?",
        "methods.fsp.by_size: 65 is not among the sizes of this sweep (36, 64)",
        "evaluate.leaves.kind: there is no data source 'dead-leafs'; did you mean 'dead-leaves'?",
        "published.out_of_domain.laeves: nothing is judged on 'laeves'; did you mean 'leaves'?",
        "published.figures.fsp: [1] are not figures of psnr, cvu; null stands for an unknown one",
        "claims.0.greater: the sweep has no method 'fsq'; did you mean 'fsp'?",
    ]


def test_problems_of_recipes_carry_the_method_and_the_size() -> None:
    text = TEXT.replace("quantizer.levels=[4,4,4]", "quantizer.levles=3").replace("[psnr, cvu]", "[psnr, ssim]")
    with pytest.raises(RecipeError) as caught:
        make_cells(sweep(text), RUNS)
    assert str(caught.value).splitlines() == [
        "methods.fsp at K = 36: its recipe does not evaluate ssim; override "
        'evaluation.metrics=["psnr", "usage", "cvu", "ssim"]',
        "methods.fsp at K = 64: quantizer.levles: 'fsp' takes no such argument; did you mean 'levels'?",
        "methods.vpvae: its recipe does not evaluate ssim; override "
        'evaluation.metrics=["psnr", "usage", "cvu", "ssim"]',
    ]


def test_a_drop_needs_the_data_it_drops_to() -> None:
    text = TEXT + "claims: [{claim: c, metric: psnr, greater: fsp, than: 0, what: drop}]\n"
    assert problems_of(text) == ["claims.0.data: a drop needs the data it drops to; one of: leaves"]


def test_a_sweep_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecipeError, match="expected a sweep with columns and methods; got list"):
        sweep("- a")


def test_a_label_reads_like_a_sentence() -> None:
    assert isinstance(make_cells(sweep(), RUNS)[0], Cell)
    assert [cell.label for cell in make_cells(sweep(), RUNS)][::4] == ["fsp, K = 36, seed 0", "vpvae, seed 0"]
