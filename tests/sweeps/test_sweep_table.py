"""The table of a sweep against figures worked out by hand."""

import csv
import dataclasses
import io
import math
import pathlib

import pytest

from tokcli.locking import Lock, acquire
from tokcli.progress import SILENT
from tokcli.recipe.recipe import from_text
from tokcli.sweeps.cells import Cell
from tokcli.sweeps.claims import decide
from tokcli.sweeps.outcomes import Figures, Outcome
from tokcli.sweeps.plan import IN_DOMAIN, Claim, Method, Published, Sweep
from tokcli.sweeps.render import render, to_csv, to_json, to_markdown
from tokcli.sweeps.table import Row, Spread, tabulate

PLAN = Sweep(
    name="t",
    summary="A table.",
    columns=["psnr"],
    methods={"a": Method("tiny", by_size={36: [], 64: []}), "b": Method("tiny", by_size={36: []})},
    sizes=[36, 64],
    seeds=[0, 1, 2],
    overrides=["training.steps=9"],
    evaluate={"other": {"kind": "dead-leaves", "items": 1, "size": 8}},
    curves=["cvu"],
    published=Published("elsewhere", ["psnr"], {"a": {36: [22.5]}, "b": {36: "failed"}}),
    claims=[],
)


def cell(tiny: str, method: str, size: int | None, seed: int) -> Cell:
    recipe = from_text(tiny, "tiny", [f"seed={seed}"])
    return Cell(method, size, seed, recipe, pathlib.Path("runs"), "tok train tiny", ())


def finished(within: float | None, beyond: float, curve: list[tuple[int, float]]) -> Outcome:
    figures = {(IN_DOMAIN, None): Figures({"psnr": within}, 36), ("other", None): Figures({"psnr": beyond}, 36)}
    return Outcome("finished", None, figures, {"cvu": curve}, 1.0)


def unwell(state: str, reason: str) -> Outcome:
    return Outcome(state, reason, {}, {}, 0.0)


@pytest.fixture
def outcomes(tiny: str) -> list[tuple[Cell, Outcome]]:
    return [
        (cell(tiny, "a", 36, 0), finished(20.0, 18.0, [(4, 0.5), (8, 0.7), (9, 0.6)])),
        (cell(tiny, "a", 36, 1), finished(22.0, 19.0, [(4, 0.3), (8, 0.5), (9, 0.6)])),
        (cell(tiny, "a", 36, 2), finished(24.0, 20.0, [(4, 0.4), (9, 0.9)])),
        (cell(tiny, "a", 64, 0), finished(30.0, 29.0, [(4, 0.1)])),
        (cell(tiny, "a", 64, 1), unwell("diverged", "the loss | is not finite")),
        (cell(tiny, "a", 64, 2), unwell("missing", "not run")),
        (cell(tiny, "b", 36, 0), finished(10.0, 9.0, [(4, 0.1)])),
        (cell(tiny, "b", 36, 1), finished(11.0, 9.0, [(4, 0.1)])),
        (cell(tiny, "b", 36, 2), finished(None, 9.0, [(4, 0.1)])),
    ]


def test_the_markdown_is_the_table_worked_out_by_hand(outcomes) -> None:
    page = to_markdown(PLAN, tabulate(PLAN, outcomes), [], outcomes, "tok sweep t")
    lines = page.splitlines()
    # Over 20, 22, 24: mean 22, squares 4 + 0 + 4 over 2, so 2.00; over 10, 11: mean 10.5, sqrt(.5) = .71.
    assert lines[4:9] == [
        "| method | K   | codes | n      | psnr         | psnr, published | psnr, other  |",
        "|--------|-----|-------|--------|--------------|-----------------|--------------|",
        "| a      | 36  | 36    | 3      | 22.00 ± 2.00 | 22.5            | 19.00 ± 1.00 |",
        "| a      | 64  | 36    | 1 of 3 | 30.00        | –               | 29.00        |",
        "| b      | 36  | 36    | 3      | 10.50 ± 0.71 | failed          | 9.00 ± 0.00  |",
    ]
    assert "Published, in another setting: elsewhere." in page
    assert "Made by: `tok sweep t`" in page
    # Curves: means at the steps that all seeds share.
    assert "| a, K = 36 | 0.4 | 0.7 |" in page
    assert "| a, K = 64, seed 1 | diverged | the loss \\| is not finite |" in page
    assert "| a, K = 64, seed 2 | missing  | not run                   |" in page


def test_published_figures_of_another_domain_stand_beside_ours_of_it(outcomes) -> None:
    published = Published("elsewhere", ["psnr"], {}, {"other": {"a": {36: [17.5]}}})
    plan = dataclasses.replace(PLAN, published=published)
    table = tabulate(plan, outcomes)
    lines = to_markdown(plan, table, [], outcomes, "tok sweep t").splitlines()
    assert lines[4] == "| method | K   | codes | n      | psnr         | psnr, other  | psnr, other, published |"
    assert lines[6] == "| a      | 36  | 36    | 3      | 22.00 ± 2.00 | 19.00 ± 1.00 | 17.5                   |"
    assert [line["published"] for line in csv.DictReader(io.StringIO(to_csv(plan, table)))][:2] == ["", "17.5"]
    row = to_json(plan, table, [], outcomes, "tok sweep t")["rows"][0]
    assert row["published"] == {}
    assert row["published_out_of_domain"] == {"other": {"psnr": 17.5}}


def test_the_csv_has_a_line_for_every_row_data_and_metric(outcomes) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(PLAN, tabulate(PLAN, outcomes)))))
    assert len(lines) == 6
    assert lines[0] == {
        "method": "a",
        "size": "36",
        "codes": "36",
        "data": "in domain",
        "metric": "psnr",
        "mean": "22.0",
        "deviation": "2.0",
        "n": "3",
        "seeds": "3",
        "published": "22.5",
    }
    assert (lines[2]["n"], lines[2]["deviation"]) == ("1", "")
    assert lines[4]["n"] == "2"


def test_the_json_names_every_seed_and_every_command(outcomes) -> None:
    report = to_json(PLAN, tabulate(PLAN, outcomes), [], outcomes, "tok sweep t")
    assert report["rows"][0]["figures"]["in domain"]["psnr"]["by_seed"] == {"0": 20.0, "1": 22.0, "2": 24.0}
    assert report["rows"][0]["published"] == {"psnr": 22.5}
    assert report["cells"][4]["reason"] == "the loss | is not finite"
    assert report["cells"][0]["command"] == "tok train tiny"


def test_codebooks_of_one_training_are_rows_of_their_own(tiny: str) -> None:
    plan = dataclasses.replace(PLAN, methods={"v": Method("tiny", codebooks=[36, 64])}, published=None, evaluate={})
    figures = {
        (IN_DOMAIN, None): Figures({"psnr": 1.0}, 36),
        (IN_DOMAIN, 36): Figures({"psnr": 1.0}, 36),
        (IN_DOMAIN, 64): Figures({"psnr": 2.0}, 64),
    }
    outcome = Outcome("finished", None, figures, {"cvu": [(4, 0.5)]}, 1.0)
    table = tabulate(plan, [(cell(tiny, "v", None, 0), outcome)])
    found = [(row.size, row.codes, row.figures[IN_DOMAIN, "psnr"].mean, list(row.curves)) for row in table]
    assert found == [(36, 36, 1.0, ["cvu"]), (64, 64, 2.0, [])]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({0: 23.816, 1: 23.824}, "23.82 ± 0.01"),
        ({0: 0.3, 1: 0.32}, "0.310 ± 0.014"),
        ({0: 0.0001}, "0.0001"),
        ({0: 0.0}, "0.000"),
        ({0: -2.345}, "-2.35"),
    ],
)
def test_a_spread_shows_the_decimals_that_its_size_deserves(values: dict[int, float], text: str) -> None:
    assert str(Spread(values)) == text


def verdict(claim: Claim, outcomes) -> tuple[str, list[str]]:
    plan = dataclasses.replace(PLAN, claims=[claim])
    judged = decide(claim, tabulate(plan, outcomes))
    return judged.verdict, [comparison.verdict for comparison in judged.comparisons]


def test_a_claim_holds_where_the_difference_passes_welchs_test(outcomes) -> None:
    from scipy import stats

    # b against a number: 10 and 11; t = 2.5 / .5 = 5, one degree of freedom, p = .063: undecided at 5 %.
    assert stats.ttest_1samp([10, 11], 8, alternative="greater").pvalue == pytest.approx(0.0628, abs=1e-4)
    assert verdict(Claim("c", "psnr", "b", 8), outcomes)[0] == "undecided"
    assert stats.ttest_1samp([10, 11], 7, alternative="greater").pvalue == pytest.approx(0.0452, abs=1e-4)
    assert verdict(Claim("c", "psnr", "b", 7), outcomes)[0] == "holds"
    assert stats.ttest_ind([20, 22, 24], [10, 11], equal_var=False, alternative="greater").pvalue < 0.05
    at_36 = [pair for pair in outcomes if pair[0].size == 36]
    plan_claim = Claim("c", "psnr", "b", "a")
    assert verdict(plan_claim, at_36) == ("does not hold", ["does not hold"])


def test_a_single_seed_or_a_missing_side_decides_nothing(outcomes) -> None:
    assert verdict(Claim("c", "psnr", "a", "b"), outcomes) == ("undecided", ["holds", "undecided"])
    assert verdict(Claim("c", "psnr", "a", 1), outcomes) == ("undecided", ["holds", "undecided"])


def test_sizes_are_judged_together_by_the_mean_of_their_differences() -> None:
    import numpy
    from scipy import stats

    generator = numpy.random.default_rng(0)
    sides = {(name, size): generator.normal(shift, 1, 3) for name, shift in (("a", 1.5), ("b", 0)) for size in (36, 64)}
    table = [
        Row(name, size, size, 3, 3, {(IN_DOMAIN, "psnr"): Spread(dict(enumerate(values.tolist())))}, {}, {})
        for (name, size), values in sides.items()
    ]
    judged = decide(Claim("c", "psnr", "a", "b"), table)
    for comparison, size in zip(judged.comparisons, (36, 64), strict=True):
        test = stats.ttest_ind(sides["a", size], sides["b", size], equal_var=False, alternative="greater")
        assert comparison.p == pytest.approx(test.pvalue)
    # Together: mean of the two differences; variances of four means of three, each with two degrees of freedom.
    variances = [values.var(ddof=1) / 3 for values in sides.values()]
    freedom = sum(variances) ** 2 / sum(variance**2 / 2 for variance in variances)
    difference = sum(sides["a", size].mean() - sides["b", size].mean() for size in (36, 64)) / 2
    expected = stats.t.sf(difference / (sum(variances) ** 0.5 / 2), freedom)
    assert judged.together.difference == pytest.approx(difference)
    assert judged.together.p == pytest.approx(expected)
    assert judged.together.p < min(each.p for each in judged.comparisons)
    assert judged.verdict == judged.together.verdict
    assert str(judged).startswith(f"mean {difference:+.3g} (p = 0.0")
    contrary = decide(Claim("c", "psnr", "b", "a"), table)
    assert contrary.together.p == pytest.approx(1 - expected)


def test_a_drop_and_a_fall_are_differences_within_a_seed(outcomes) -> None:
    # a at 36 drops by 2, 3, 4: mean 3, error of the mean 1 / sqrt(3); t = 5.2 on two degrees of freedom.
    drop = decide(Claim("c", "psnr", "a", 0, "drop", "other"), tabulate(PLAN, outcomes))
    assert drop.comparisons[0].difference == pytest.approx(3)
    assert drop.comparisons[0].verdict == "holds"
    # Its curves fall by .1, 0 and 0.
    claim = Claim("c", "cvu", "a", 0, "fall")
    table = tabulate(dataclasses.replace(PLAN, claims=[claim]), outcomes)
    assert decide(claim, table).comparisons[0].difference == pytest.approx(0.1 / 3)
    assert not math.isnan(decide(claim, table).comparisons[1].difference)


def test_a_table_is_read_and_written_by_one_process_at_a_time(
    outcomes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sweeps that render at once the later one leaves its table, and not one that it read before the other."""
    told: list[bool] = []

    def read(cell: Cell) -> Outcome:
        told.append(isinstance(acquire(tmp_path / ".table.lock", patience=0), Lock))
        return dict((id(cell), outcome) for cell, outcome in outcomes)[id(cell)]

    monkeypatch.setattr("tokcli.sweeps.render.read_outcome", read)
    rendered = render(PLAN, [cell for cell, _ in outcomes], tmp_path, "tok sweep t", SILENT)
    assert told == [False] * len(outcomes)
    assert (tmp_path / "table.md").read_text() == rendered.markdown
    assert not (tmp_path / ".table.lock").exists()
