"""The page of a sweep: every row, claim, curve and cell is on it, escaped, and it asks for nothing."""

import json
import pathlib
import re

SWEEP = """# Tiny <b>against</b> tiny.
columns: [psnr, cvu]
curves: [psnr]
seeds: [0, 1]
methods:
  one: {recipe: tiny.yaml}
  other: {recipe: tiny.yaml}
claims:
  - {claim: One beats the other, metric: psnr, greater: one, than: other}
"""


def test_a_sweep_leaves_a_page_with_its_table_claims_and_cells(tok, tiny: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    (tmp_path / "compare.yaml").write_text(SWEEP)
    folder = tmp_path / "runs" / "compare"
    outcome = tok("sweep", "compare.yaml", "--render-only")
    assert outcome.code == 0, outcome.err
    page = (folder / "report.html").read_text()
    assert "Tiny &lt;b&gt;against&lt;/b&gt; tiny." in page
    assert len(re.findall(r'<tr><th scope="row"><div class="name">', page)) == 2
    assert "One beats the other" in page
    commands = [cell["command"] for cell in json.loads((folder / "table.json").read_text())["cells"]]
    assert len(commands) == 4
    assert all(f"<code>{command}</code>" in page for command in commands)
    assert not re.search(r"https?:", page)


def test_each_codebook_size_is_a_panel_in_which_methods_keep_their_names() -> None:
    from tokcli.sweeps.render import group_curves
    from tokcli.sweeps.table import Row

    curve = [(1, 0.5), (2, 0.6)]
    rows = [
        Row(method, size, size, 1, 1, {}, {"cvu": curve} if method != "none" else {}, {})
        for method in ("one", "other", "none")
        for size in (45, 60)
    ]
    both = {"one": curve, "other": curve}
    assert group_curves("cvu", rows) == {"cvu, K = 45": both, "cvu, K = 60": both}
    assert group_curves("psnr", rows) == {}
    assert group_curves("cvu", [Row("one", None, 45, 1, 1, {}, {"cvu": curve}, {})]) == {"cvu": {"one": curve}}


def test_curves_over_training_are_charts_with_a_mark_at_each_step() -> None:
    from tokcli.evaluation.report.charts import draw_curves

    chart = draw_curves("psnr", [(0, "a", [(100, 20.0), (200, 21.0)]), (1, "b", [(100, 19.0)])])
    assert chart.count('class="filled"') == 3
    assert "<title>a: psnr 21 at step 200</title>" in chart
    assert ">psnr, dB</text>" in chart
