"""`tok info`: what anything is, from its own words: runs, tokenizers, recipes, tokens; and what is none of these."""

import functools
import math
import pathlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from tokcli import hub
from tokcli.artifacts import load_artifact
from tokcli.artifacts.artifact import FORMAT, Artifact, codebook_ready
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.artifacts.tensors import read_metadata
from tokcli.commands.environment import describe_environment
from tokcli.commands.foreign_tokens import find_foreign, is_foreign
from tokcli.commands.pinned_bench import is_bench, read_bench
from tokcli.commands.run_facts import advise, describe_history, find_end, list_runs, read_figures
from tokcli.contracts import BuildsCodebook, compute_rate
from tokcli.data.files import ARCHIVES, describe_skipped, find_files
from tokcli.data.modality import MODALITIES, find_modality
from tokcli.data.places import is_remote
from tokcli.errors import InputError, MismatchError, quote
from tokcli.exchange.arrays import SUFFIXES, open_arrays
from tokcli.exchange.sequences import format_grid
from tokcli.foreign_weights import UNKNOWN
from tokcli.metrics.tokens import count_tokens, empirical_bits, entropy, entropy_bits, packed_bits, select_occurring
from tokcli.models import RUNS, find_model, name_model
from tokcli.published import Place, find_place, open_published
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import UNSPECIFIED, from_text
from tokcli.recipe.shipped import SWEEPS, find_recipe_text, list_shipped, list_shipped_sweeps, read_guide, read_shipped
from tokcli.recipe.text import parse
from tokcli.shipped import ShippedTokenizer, find_tokenizer, is_name, list_names, list_tokenizers
from tokcli.spelling import nearest
from tokcli.sweeps.plan import read_sweep
from tokcli.tokens import has_header, open_tokens
from tokcli.tokens.remote import FILES, fetch_tokens, holds_tokens
from tokcli.training.checkpoint import find_newest_checkpoint
from tokcli.training.run_folder import CELL, RunFolder

CHECKPOINT = (
    "a checkpoint of PyTorch, which info does not open; weights of LlamaGen's tokenizers or taming's VQGANs become a "
    "tokenizer with tok import FILE --as llamagen -o NAME.safetensors (or --as taming)"
)

EXPECTED = "a run, a folder of runs, a sweep, a tokenizer, a checkpoint, a recipe or a token file"


def info(path: str | None = None) -> dict[str, Any]:
    """Plain values that describe what lies at `path`; the first one says what it is.

    Args:
        path: a run, a folder of runs or of a sweep, an artifact, a checkpoint, a tokenizer that comes with tok (by its
            name) or lies on a hub (`hf:USER/NAME`), a recipe (a file or a shipped name), or tokens; None: the runs here
            and this machine. What lies here under a shipped name is meant by it, and a tokenizer comes before the
            recipe of the same name.

    Raises:
        InputError: where nothing is there.
        MismatchError: for what is none of these, with what it is.
    """
    if path is None:
        tokenizers = {each.label: f"{each.path.stat().st_size / 1e6:.1f} MB" for each in list_tokenizers()}
        return {"runs": list_runs(RUNS), **({"tokenizers": tokenizers} if tokenizers else {}), **describe_environment()}
    if hub.is_name(path):
        return _describe_shared(path)
    place = pathlib.Path(path)
    published = None if RunFolder(place).started else find_place(path)
    if published is not None:
        return _describe_published(published, path)
    if is_remote(path):
        return _describe_remote(path)
    if not place.exists():
        return _describe_items(path) if "{" in path else _describe_name(path)
    if place.is_dir():
        return _describe_folder(place)
    describe = _find_describer(place)
    return describe(place)


def _describe_name(name: str) -> dict[str, Any]:
    """A shipped tokenizer, recipe or sweep. Raises InputError for anything else that is not there."""
    if is_name(name) and (name in list_names() or name not in list_shipped()):
        return _describe_shipped(find_tokenizer(name))
    if name in list_shipped():
        guide = read_guide(read_shipped(name))
        return {"recipe": name, **_describe_recipe_text(name), "needs": guide.needs}
    if name in list_shipped_sweeps():
        found = read_shipped(name, SWEEPS)
        return {"sweep": name, "title": found.summary, "next": f"tok sweep {name}"}
    known = [*(str(each) for each in RUNS.glob("*")), *list_names(), *list_shipped(), *list_shipped_sweeps()]
    hint = nearest(name, known) if nearest(name, known).startswith("did you mean") else f"expected {EXPECTED}"
    raise InputError(f"there is nothing at {name}; {hint}")


def _describe_shipped(shipped: ShippedTokenizer) -> dict[str, Any]:
    """The card of a tokenizer that comes with tok, and what its file says of itself."""
    facts = _describe_artifact(shipped.path)
    left_out = {"name", "artifact", "metrics"}
    ways = [f"tok encode FOLDER -o tokens.npy -m {shipped.label}"]
    ways += [f"how it was trained: tok recipes show {shipped.name}"] if shipped.name in list_shipped() else []
    return {
        "tokenizer": shipped.label,
        **shipped.read_card(),
        **{name: value for name, value in facts.items() if name not in left_out},
        "megabytes": shipped.path.stat().st_size / 1e6,
        "file": str(shipped.path),
        "next": "    ".join(ways),
    }


def _describe_shared(name: str) -> dict[str, Any]:
    """A tokenizer in a repository of a hub, at the commit that is the newest now."""
    path = find_model(name)
    label = name_model(path)
    published = find_place(str(path))
    if published is not None:
        return _describe_published(published, label)
    facts = {key: value for key, value in _describe_artifact(path).items() if key != "artifact"}
    return {"tokenizer": label, **facts, "file": str(path), "next": f"tok encode FOLDER -o tokens.npy -m {label}"}


def _describe_published(place: Place, named: str) -> dict[str, Any]:
    """A tokenizer that another library ships. Raises what opening it raises."""
    published = open_published(place)
    codec, network = published.codec, published.codec.network
    return {
        "published": str(place.folder),
        "modality": codec.modality,
        "what": published.summary,
        "codebook_size": codec.codebook_size,
        "groups": codec.groups,
        "stride": network.stride,
        "parameters": sum(value.numel() for value in network.network.parameters()),
        **published.record,
        "next": f"tok encode FOLDER -o tokens.npy -m {named}",
    }


def _describe_folder(folder: pathlib.Path) -> dict[str, Any]:
    run = RunFolder(folder)
    if run.started:
        return _describe_run(run)
    if has_header(folder):
        return _describe_tokens(folder)
    rows = list_runs(folder)
    table = folder / "table.md"
    if table.exists() or any((folder / row["name"] / CELL).exists() for row in rows):
        return {"sweep": str(folder), "table": str(table) if table.exists() else None, "cells": rows}
    if rows:
        return {"folder": str(folder), "runs": rows, "next": f"tok eval {folder}/*/    compares them"}
    if is_foreign(folder):
        return _describe_foreign(folder)
    if str(folder) in list_names():  # a folder of photographs may well be called photo
        return _describe_name(str(folder))
    raise MismatchError(f"{folder} is {_name_content(folder)}; expected {EXPECTED}")


def _describe_remote(url: str) -> dict[str, Any]:
    """Tokens that lie elsewhere, or pictures or sounds. Raises InputError where it holds none of these."""
    is_folder = not pathlib.PurePath(url).suffix and not set("*?[{") & set(url)
    if not (is_folder and holds_tokens(url)) and not url.endswith(FILES):
        return _describe_items(url)
    with fetch_tokens(url) as path:
        return _describe_tokens(path) | {"tokens": url}


def _describe_items(path: str) -> dict[str, Any]:
    """Archives, or what is remote. Raises InputError where it holds neither pictures nor sounds."""
    modality = find_modality(path)
    files = find_files([path], modality.suffixes, modality.file_noun)
    skipped = describe_skipped(files)
    return {
        modality.nouns[1]: len(files.names),
        "path": path,
        **({"skipped": skipped} if skipped else {}),
        "next": f"tok encode '{path}' -o tokens.npy",
    }


def _holds_items(path: pathlib.Path) -> bool:
    """Whether it is an archive of pictures or sounds; an archive of tokens is none."""
    if not path.name.lower().endswith(tuple(ARCHIVES)):
        return False
    try:
        find_modality(str(path))
    except InputError:
        return False
    return True


def _name_content(folder: pathlib.Path) -> str:
    """What a folder that is none of ours holds, with what could be done with it."""
    for modality in MODALITIES.values():
        found = [path for path in folder.rglob("*") if path.suffix.lower() in modality.suffixes]
        if found:
            noun = modality.nouns[len(found) != 1]
            return f"a folder of {len(found)} {noun}, whose tokens are made by: tok encode {folder} -o tokens.npy"
    return "a folder without runs, tokens, pictures or sounds"


def _find_describer(path: pathlib.Path) -> Callable[[pathlib.Path], dict[str, Any]]:
    """What describes a file. Raises MismatchError for one that is none of ours, with what it is."""
    if path.suffix == ".safetensors":
        return _describe_safetensors
    if has_header(path):
        return _describe_tokens
    if path.suffix in (".yaml", ".yml"):
        return _describe_recipe
    if _holds_items(path):
        return lambda archive: _describe_items(str(archive))
    if is_foreign(path) and path.name != "metrics.jsonl":
        return _describe_foreign
    raise MismatchError(f"{path} is {_name_file(path)}; expected {EXPECTED}")


def _name_file(path: pathlib.Path) -> str:
    for modality in MODALITIES.values():
        if path.suffix.lower() in modality.suffixes:
            return f"a {modality.nouns[0]}, whose tokens are made by: tok encode {path} -o tokens.npy"
    if path.name == "metrics.jsonl":
        return f"the figures of a run: tok info {path.parent}"
    if path.name.endswith(".npy.json"):
        return f"the header of a token file: tok info {path.with_suffix('')}"
    known = {
        ".txt": "a text, such as a list of files for tok encode or a log",
        ".json": "a file of JSON",
        ".html": "a page, such as tok eval --report writes: open it in a browser",
        ".md": "a text in Markdown",
        ".pt": CHECKPOINT,
        ".pth": CHECKPOINT,
        ".ckpt": CHECKPOINT,
        ".npz": "an archive of NumPy: save one array as .npy",
        ".zip": "an archive: unpack it",
    }
    return known.get(path.suffix.lower(), f"a file of a kind that tok does not know ({quote(path.suffix)})")


def _describe_run(run: RunFolder) -> dict[str, Any]:
    if run.artifact.exists():
        return {"run": str(run.path), **describe_history(run), **_describe_artifact(run.artifact)}
    newest = find_newest_checkpoint(run.checkpoints)
    return {
        "run": str(run.path),
        "finished": False,
        **describe_history(run),
        "ended": find_end(run),
        "checkpoint": str(newest) if newest else None,
        "metrics": read_figures(run),
        "next": advise(run),
    }


def _describe_safetensors(path: pathlib.Path) -> dict[str, Any]:
    """An artifact, a checkpoint, tokens with a header, or a generator's tokens."""
    try:
        metadata = read_metadata(path)
    except MismatchError:
        metadata = {}
    if FORMAT in metadata.get("format", ""):
        return _describe_artifact(path)
    if "step" in metadata and "recipe" in metadata:
        return {
            "checkpoint": str(path),
            "step": metadata["step"],
            "recipe_fingerprint": metadata["recipe"],
            "next": f"tok train RECIPE -o FOLDER --resume {path}    begins with it",
        }
    return _describe_tokens(path) if has_header(path) else _describe_foreign(path)


def _describe_artifact(path: pathlib.Path) -> dict[str, Any]:
    artifact: Artifact = load_artifact(path)
    tokenizer, recipe = artifact.tokenizer, artifact.recipe
    quantizer = tokenizer.quantizer
    sums = compute_fingerprints(tokenizer, recipe) if codebook_ready(tokenizer) else None
    waits = isinstance(quantizer, BuildsCodebook) and not sums
    return {
        "artifact": str(path),
        "name": recipe.name,
        "modality": tokenizer.modality,
        "quantizer": recipe.quantizer["kind"],
        "codebook_size": quantizer.codebook_size if sums else None,
        "groups": quantizer.groups,
        "stride": tokenizer.autoencoder.stride,
        "parameters": sum(value.numel() for value in tokenizer.parameters()),
        "weights": artifact.weights,
        "storage": artifact.storage,
        "licence": recipe.licence,
        **_describe_import(artifact),
        "credits": recipe.credits or None,
        "network_fingerprint": sums.network if sums else None,
        "codebook_fingerprint": sums.codebook if sums else None,
        "steps": artifact.training.get("steps"),
        "metrics": artifact.training.get("metrics", {}),
        "codebooks": [asdict(report) for report in artifact.codebooks],
        "recipe": recipe.to_dict(),
        **({"next": f"tok build-codebook {path}    the figures are provisional until then"} if waits else {}),
    }


def _describe_import(artifact: Artifact) -> dict[str, Any]:
    """Where imported weights come from, and what nobody knows of them; empty for those that tok trained."""
    imported = artifact.training.get("imported")
    if not isinstance(imported, dict):
        return {}
    licence = {"licence": UNKNOWN} if artifact.recipe.licence == UNSPECIFIED else {}
    return {"imported": imported, "trained_on": UNKNOWN, **licence}


def _describe_recipe(path: pathlib.Path) -> dict[str, Any]:
    """A recipe or a sweep of one's own. Raises what reading it raises, with all that is wrong."""
    name, text = find_recipe_text(str(path))
    content = parse(text, name)
    if isinstance(content, dict) and "methods" in content and "autoencoder" not in content:
        sweep = read_sweep(text, name)
        cells = len(sweep.methods) * max(1, len(sweep.sizes)) * len(sweep.seeds)
        return {"sweep": name, "methods": ", ".join(sweep.methods), "cells": cells, "next": f"tok sweep {name}"}
    if is_bench(content):
        bench = read_bench(content)
        facts = {"models": ", ".join(bench.models), "against": ", ".join(bench.against) or None}
        facts |= {"metrics": ", ".join(bench.columns), "data": ", ".join(bench.evaluate)}
        return {"bench": name, "modality": bench.bench, **facts, "next": f"tok sweep {name}"}
    return {"recipe": name, **_describe_recipe_text(str(path))}


def _describe_recipe_text(reference: str) -> dict[str, Any]:
    name, text = find_recipe_text(reference)
    recipe = from_text(text, name)
    with torch.device("meta"):
        tokenizer = build_tokenizer(recipe)
    size = recipe.eval_data.get("size")
    axes = 2 if tokenizer.modality == "image" else 1
    grid = tokenizer.grid((size,) * axes) if type(size) is int else None
    return {
        "name": recipe.name,
        "modality": tokenizer.modality,
        "autoencoder": recipe.autoencoder["kind"],
        "quantizer": recipe.quantizer["kind"],
        "codebook_size": tokenizer.quantizer.codebook_size,
        "groups": tokenizer.quantizer.groups,
        "stride": tokenizer.autoencoder.stride,
        "grid": format_grid(grid) if grid else None,
        "parameters": sum(value.numel() for value in tokenizer.parameters()),
        "losses": ", ".join(node["kind"] for node in recipe.losses),
        "steps": recipe.training.steps,
        "batch_size": recipe.training.batch_size,
        "data": recipe.train_data.get("path") or recipe.train_data["kind"],
        "fingerprint": recipe.fingerprint(),
        "next": f"tok train {reference}",
    }


def _describe_foreign(path: pathlib.Path) -> dict[str, Any]:
    """Tokens without a header. Raises what opening them raises."""
    facts: dict[str, Any] = {"tokens": str(path), "header": "none: whose tokens they are is not known"}
    if path.is_file() and path.suffix in SUFFIXES:
        arrays = open_arrays(path)
        first = next(iter(arrays.values()))
        facts |= {"arrays": len(arrays), "shape": format_grid(first.shape), "dtype": str(first.dtype)}
        facts |= {"smallest": int(first.min()), "largest": int(first.max())} if first.size else {}
    else:
        facts |= {"format": find_foreign(path).kind}
    return facts | {"next": f"tok decode {path} -m MODEL -o out/"}


def _describe_tokens(path: pathlib.Path) -> dict[str, Any]:
    reader = open_tokens(path)
    header = reader.header
    counts = functools.reduce(torch.add, (count_tokens(item.tokens, header.codebook_size) for item in reader))
    samples = sum(torch.Size(record.signal_size).numel() for record in reader.records)
    occurring = select_occurring(counts)
    usage = sum(len(group) / header.codebook_size for group in occurring) / len(occurring)
    perplexity = sum(math.exp(entropy(group)) for group in occurring) / len(occurring)
    rates = [compute_rate(bits, samples, header.sample_rate) for bits in (packed_bits(counts), empirical_bits(counts))]
    return {
        "tokens": str(path),
        "items": len(reader),
        "count": sum(int(group.sum()) for group in occurring),
        "grid": format_grid(reader.grid) if reader.grid else "differs",
        "failed": [asdict(failure) for failure in reader.failed],
        "modality": header.modality,
        "codebook_size": header.codebook_size,
        "groups": header.groups,
        "dtype": str(header.dtype),
        "entropy_bits_per_token": entropy_bits(counts),
        "usage": usage,
        "perplexity": perplexity,
        rates[0].unit: rates[0].value,
        f"{rates[1].unit}_empirical": rates[1].value,
        "sample_rate": header.sample_rate,
        "model": header.model,
        **({"published": header.published} if header.published else {}),
        "weights": header.weights,
        "preprocessing": header.preprocessing,
        "network_fingerprint": header.network_fingerprint,
        "codebook_fingerprint": header.codebook_fingerprint,
    }
