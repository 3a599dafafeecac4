"""Every shipped sweep reads, its recipes check, and each of its tokenizers can be built."""

import dataclasses
import pathlib

import pytest

from tokcli.recipe.build import build_losses, build_tokenizer
from tokcli.recipe.recipe import Recipe, from_dict
from tokcli.recipe.shipped import SWEEPS, list_shipped, read_shipped
from tokcli.sweeps.cells import list_rows, make_cells
from tokcli.sweeps.plan import Sweep, read_sweep


def plan_of(name: str) -> Sweep:
    found = read_shipped(name, SWEEPS)
    return read_sweep(found.text, name, found.summary)


def narrow(recipe: Recipe) -> Recipe:
    """The same recipe with few channels, so that it is built in no time; the quantizer stays as it is."""
    small = {"width": 8, "groups": 2, "feature_dim": 8}
    content = recipe.to_dict()
    content["autoencoder"] |= {key: value for key, value in small.items() if key in content["autoencoder"]}
    if content["autoencoder"]["kind"] == "vqgan":
        content["autoencoder"] |= {"width": 8, "groups": 2}
    content["losses"] = [node for node in content["losses"] if node["kind"] not in ("lpips", "whisper")]
    return from_dict(content)


def test_the_sweeps_of_the_papers_are_there_at_both_scales() -> None:
    found = set(list_shipped(SWEEPS))
    for paper in ("vaevq-table1", "vaevq-table3", "vaevq-figure7"):
        assert {paper, f"{paper}-small"} <= found
    for table in ("vpvae-tables1-2", "vpvae-table3", "vpvae-tables4-5", "vpvae-figure1"):
        for modality in ("image", "audio"):
            assert {f"{table}-{modality}", f"{table}-{modality}-small"} <= found


@pytest.mark.parametrize("name", list_shipped(SWEEPS))
def test_a_shipped_sweep_says_what_it_is_and_how_to_run_it(name: str) -> None:
    found = read_shipped(name, SWEEPS)
    assert len(found.summary) > 20
    assert found.summary.endswith(".")
    assert f"tok sweep {name} data.train.path=" in found.text


@pytest.mark.parametrize("name", list_shipped(SWEEPS))
def test_every_tokenizer_of_a_shipped_sweep_can_be_built(name: str) -> None:
    plan = dataclasses.replace(plan_of(name), seeds=[0])
    grid = make_cells(plan, pathlib.Path("runs"))
    assert len(grid) >= len(plan.methods)
    assert len({cell.path for cell in grid}) == len(grid)
    for cell in grid:
        recipe = narrow(cell.recipe)
        tokenizer = build_tokenizer(recipe)
        assert build_losses(recipe, tokenizer.modality)
        if cell.size is not None:
            # Levels make a product near K: 240, 1000, 4375 and 15360.
            assert 0.93 * cell.size <= tokenizer.quantizer.codebook_size <= 1.07 * cell.size


@pytest.mark.parametrize("name", list_shipped(SWEEPS))
def test_published_figures_stand_in_rows_that_exist(name: str) -> None:
    plan = plan_of(name)
    if plan.published is None:
        return
    table = list(list_rows(plan))
    for figures in [plan.published.figures, *plan.published.out_of_domain.values()]:
        for method, given in figures.items():
            sizes = given if isinstance(given, dict) else [None]
            assert all((method, size) in table for size in sizes), method
