"""What version 0.1.0 left on disk is read as it was: tokens, fingerprints, signals, and runs that go on.

`write_ground.py` says what the files are. Tokens and fingerprints are compared to the bit. Signals and weights are too
on the machine that wrote them; another processor rounds differently, so there the last digits may differ.
"""

import hashlib
import json
import pathlib
import runpy
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tokcli.artifacts import load_artifact
from tokcli.recipe.recipe import from_text
from tokcli.sweeps.cells import make_cells
from tokcli.sweeps.plan import read_sweep
from tokcli.tokens import open_tokens

GROUND = pathlib.Path(__file__).parent
SHIPPED = GROUND.parent.parent / "recipes"
CASES = sorted(path.parent.name for path in GROUND.glob("*/expected.json"))
INTERRUPTED = sorted(path.parent.name for path in GROUND.glob("*/interrupted"))
FORMS = ["tokens.npy", "tokens.safetensors", "tokens"]


def expected_of(case: str) -> dict:
    return json.loads((GROUND / case / "expected.json").read_text())


def same_machine(case: str) -> bool:
    """Whether the last bits of a computation can be expected to be those that were stored."""
    return expected_of(case)["machine"] == machine()


def machine() -> dict[str, str]:
    """As in `write_ground.py`."""
    about = pathlib.Path("/proc/cpuinfo")
    wanted = ("model name", "cpu family", "model", "stepping", "cache size", "flags")
    first = about.read_text().partition("\n\n")[0].splitlines() if about.exists() else []
    lines = [line for line in first if line.partition("\t")[0].partition(":")[0].strip() in wanted]
    return {"torch": torch.__version__, "processor": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]}


def assert_close(tensor: torch.Tensor, stored: torch.Tensor, case: str, tolerance: float) -> None:
    exact = same_machine(case) or not stored.is_floating_point()
    torch.testing.assert_close(tensor, stored, rtol=0 if exact else tolerance, atol=0 if exact else tolerance)


def inputs_of(case: str, form: str) -> list[str]:
    """What was encoded into this form, and with which flags."""
    if case.startswith("audio"):
        return [str(GROUND / "inputs/audio"), "--size", "960" if form == "tokens.npy" else "native"]
    return [str(GROUND / "inputs/image")] if form == "tokens.npy" else [
        str(GROUND / "inputs/image-ragged"), "--size", "native",
    ]  # fmt: skip


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The files of one form: a folder's, or the file and what is written beside it."""
    if path.is_dir():
        return sorted(path.iterdir())
    return sorted(each for each in path.parent.glob(f"{path.name}*") if each.is_file())


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_kind_of_quantizer_is_here_in_both_modalities() -> None:
    from tokcli.quantizers import QUANTIZERS

    kinds = {load_artifact(GROUND / case / "tokenizer.safetensors").recipe.quantizer["kind"] for case in CASES}
    assert kinds == set(QUANTIZERS) & kinds == {"vq", "simvq", "fsq", "fsp", "vpvae", "tokenbridge", "vaevq"}
    for kind in kinds:
        assert {f"image-{kind}", f"audio-{kind}"} <= set(CASES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_an_old_artifact_gives_the_same_token_files_to_the_byte(tok, tmp_path, case: str, form: str) -> None:
    outcome = tok(
        "encode", *inputs_of(case, form), "-o", form, "-m", GROUND / case / "tokenizer.safetensors", "--quiet"
    )
    assert outcome.code == 0, outcome.err
    if (GROUND / case / form).is_dir():  # of an older layout, which says the same of the same items
        old, new = open_tokens(GROUND / case / form), open_tokens(tmp_path / form)
        assert (old.header, old.grid, list(old.records)) == (new.header, new.grid, list(new.records))
        assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(old, new, strict=True))
        return
    stored = files_of(GROUND / case / form)
    assert stored
    assert [path.name for path in files_of(tmp_path / form)] == [path.name for path in stored]
    for path in stored:
        made = tmp_path / path.relative_to(GROUND / case)
        assert made.read_bytes() == path.read_bytes(), f"{case}: {path.name}"


@pytest.mark.parametrize("case", CASES)
def test_old_tokens_decode_to_the_same_signals(case: str) -> None:
    tokenizer = load_artifact(GROUND / case / "tokenizer.safetensors").tokenizer
    stored = load_file(GROUND / case / "expected.safetensors")
    items = [name.removeprefix("tokens/") for name in stored if name.startswith("tokens/")]
    for item in items:
        tokens, signal = stored[f"tokens/{item}"], stored[f"signals/{item}"]
        grid = signal.dim() - 1
        tokens = tokens if tokens.dim() > grid else tokens.unsqueeze(-1)
        assert_close(tokenizer.decode(tokens[None], signal.shape[1:])[0], signal, case, tolerance=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_old_token_files_decode_to_files_and_describe_themselves(tok, tmp_path, case: str, form: str) -> None:
    artifact, tokens = GROUND / case / "tokenizer.safetensors", GROUND / case / form
    outcome = tok("decode", tokens, "-m", artifact, "-o", "out", "--quiet")
    assert outcome.code == 0, outcome.err
    facts = tok("info", tokens, "--json").json
    assert facts["items"] == len([path for path in (tmp_path / "out").rglob("*") if path.is_file()])
    for name in ("network_fingerprint", "codebook_fingerprint"):
        assert facts[name] == expected_of(case)[name]


@pytest.mark.parametrize("case", CASES)
def test_an_old_artifact_has_its_fingerprints_and_its_codebooks(tok, case: str) -> None:
    expected = expected_of(case)
    artifact = GROUND / case / "tokenizer.safetensors"
    facts = tok("info", artifact, "--json").json
    for name in ("network_fingerprint", "codebook_fingerprint"):
        assert facts[name] == expected[name]
    assert [str(built["size"]) for built in facts["codebooks"]] == list(expected["codebooks"])
    for size, fingerprint in expected["codebooks"].items():
        form = f"tokens-{size}.npy"
        outcome = tok("encode", *inputs_of(case, "tokens.npy"), "-o", form, "-m", artifact, "--codebook", size)
        assert outcome.code == 0, outcome.err
        assert tok("info", form, "--json").json["codebook_fingerprint"] == fingerprint


@pytest.mark.parametrize("case", CASES)
def test_an_old_artifact_has_the_names_of_weights_that_its_tokenizer_has(case: str) -> None:
    artifact = load_artifact(GROUND / case / "tokenizer.safetensors")
    assert artifact.recipe.fingerprint() == expected_of(case)["recipe"]
    training_only = {f"quantizer.{name}" for name in artifact.tokenizer.quantizer.training_only}
    stored = set(load_file(GROUND / case / "tokenizer.safetensors"))
    assert set(artifact.tokenizer.state_dict()) - training_only == stored


@pytest.mark.parametrize("case", INTERRUPTED)
def test_an_interrupted_run_goes_on_to_the_weights_of_the_uninterrupted_one(tok, tmp_path, case: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(GROUND / case / "interrupted", run)
    assert tok("info", run, "--json").json["finished"] is False
    outcome = tok("train", run / "recipe.yaml", "--out", run)
    assert outcome.code == 0, outcome.err
    assert "step 4 of 6" in outcome.err
    made, stored = load_file(run / "tokenizer.safetensors"), load_file(GROUND / case / "tokenizer.safetensors")
    assert made.keys() == stored.keys()
    for name, tensor in made.items():
        assert_close(tensor, stored[name], case, tolerance=5e-3)
    assert (run / "recipe.yaml").read_text() == (GROUND / case / "interrupted/recipe.yaml").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    after = [line for line in lines if line["step"] > 4]
    for line, expected in zip(after, expected_of(case)["metrics"], strict=True):
        assert_same_line(line, expected, exact=same_machine(case))


def assert_same_line(line: dict, expected: dict, exact: bool) -> None:
    """A line of metrics.jsonl has every entry of the stored one. Elsewhere a token may differ, and figures."""
    assert line["step"] == expected["step"]
    assert line.keys() >= expected.keys() - {"items_per_second"}
    assert line.get("evaluation", {}).keys() >= expected.get("evaluation", {}).keys()
    if exact:
        figures, stored = ({**each, **each.get("evaluation", {})} for each in (line, expected))
        for name in stored.keys() - {"items_per_second", "evaluation"}:
            assert figures[name] == pytest.approx(stored[name], rel=1e-9), name


def test_the_script_that_adds_cases_still_finds_what_it_imports() -> None:
    assert callable(runpy.run_path(str(GROUND / "write_ground.py"))["write_names"])


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_has_its_fingerprint(path: pathlib.Path) -> None:
    stored = json.loads((GROUND / "names.json").read_text())["recipes"]
    assert path.stem not in stored or from_text(path.read_text(), path.stem).fingerprint() == stored[path.stem]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("sweeps/*.yaml")), ids=lambda path: path.stem)
def test_the_cells_of_a_shipped_sweep_have_their_folders(path: pathlib.Path) -> None:
    stored = json.loads((GROUND / "names.json").read_text())["sweeps"]
    grid = make_cells(read_sweep(path.read_text(), path.stem), pathlib.Path(path.stem))
    folders = hashlib.sha256("\n".join(str(cell.path) for cell in grid).encode()).hexdigest()
    assert path.stem not in stored or folders == stored[path.stem]


def test_the_ground_stays_small() -> None:
    assert sum(path.stat().st_size for path in GROUND.rglob("*") if path.is_file()) < 2_100_000
