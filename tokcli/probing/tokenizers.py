"""The tokenizers that tokens came from: how well they reconstruct, and decoding what a probe has drawn."""

import pathlib
from collections.abc import Sequence
from typing import Any

import torch

from tokcli.artifacts import ARTIFACT_NAME
from tokcli.contracts import Codec
from tokcli.errors import MismatchError, TokError, UsageError
from tokcli.files import read_text
from tokcli.metrics import METRICS
from tokcli.models import RUNS, find_models, name_model, open_model
from tokcli.progress import SILENT
from tokcli.shipped import list_tokenizers
from tokcli.tokens import TokenHeader
from tokcli.untrusted import LONGEST_JSON, parse_json

OF_TOKENS = ("usage", "perplexity", "cvu", "entropy_bits_per_token")
"""Metrics that the probe has of its own, of the very tokens that it sees."""


def list_models(named: Sequence[str]) -> list[pathlib.Path]:
    """The artifacts that are named, which must be there; else all finished runs in ./runs and all that is shipped."""
    if named:
        return find_models(named)
    return [*sorted(RUNS.glob(f"*/{ARTIFACT_NAME}")), *(each.path for each in list_tokenizers())]


def find_tokenizer(header: TokenHeader, models: Sequence[pathlib.Path]) -> tuple[pathlib.Path, Codec] | None:
    """The first of these artifacts that made tokens with this header, with the codebook of then; None: none did."""
    for path in models:
        try:
            model = open_model(str(path), torch.device("cpu"), SILENT, header.codebook_size)
        except TokError:
            continue  # not a codebook of this size, or not a tokenizer that can be read
        own = (model.network_fingerprint, model.codebook_fingerprint)
        if own == (header.network_fingerprint, header.codebook_fingerprint):
            return path, model.codec
    return None


def require_tokenizer(header: TokenHeader, models: Sequence[pathlib.Path], name: str) -> tuple[pathlib.Path, Codec]:
    """The same. Raises UsageError where none of them made the tokens."""
    found = find_tokenizer(header, models)
    if found is None:
        raise UsageError(
            f"none of the {len(models)} models that were looked at made the tokens of {name}, so samples cannot be "
            "decoded; name the right one with -m MODEL, or leave out --samples"
        )
    return found


def read_evaluations(path: str | None) -> list[dict[str, Any]]:
    """The rows of a JSON that `tok eval --json` printed; none where no path is given.

    Raises:
        InputError: where it cannot be read.
        MismatchError: where it is no such JSON.
    """
    if path is None:
        return []
    try:
        values = parse_json(read_text(path, LONGEST_JSON).encode())
    except ValueError as error:
        raise MismatchError(f"{path} is no JSON: {error}; write it with: tok eval ... --json > {path}") from error
    rows = values if isinstance(values, list) else [values]
    whole = all(isinstance(row, dict) and isinstance(row.get("metrics"), dict) and "model" in row for row in rows)
    if not whole:
        raise MismatchError(f"{path} is not what tok eval prints; write it with: tok eval ... --json > {path}")
    return rows


def find_reconstruction(
    header: TokenHeader, model: pathlib.Path | None, evaluations: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Figures of a tokenizer's reconstructions: of the evaluation that was given, else of its run's own.

    Args:
        header: of its tokens.
        model: its artifact; None where nobody knows it.
        evaluations: rows of `tok eval --json`.
    """
    if model is None:
        return {}
    for row in evaluations:
        same = pathlib.Path(str(row["model"])).absolute() == pathlib.Path(name_model(model)).absolute()
        if same and _get_codebook_size(row) in (None, header.codebook_size):
            return _select(row["metrics"])
    if evaluations:
        return {}
    opened = open_model(str(model), torch.device("cpu"), SILENT, need_tokens=False)
    return _select(dict(opened.figures)) if opened.codec.codebook_size == header.codebook_size else {}


def _get_codebook_size(row: dict[str, Any]) -> int | None:
    protocol = row.get("protocol") if isinstance(row.get("protocol"), dict) else {}
    metrics = protocol.get("metrics", {}) if isinstance(protocol, dict) else {}
    sizes = [each["codebook_size"] for each in metrics.values() if isinstance(each, dict) and "codebook_size" in each]
    return sizes[0] if sizes else None


def _select(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures of metrics that tell of signals."""
    return {
        name: value
        for name, value in metrics.items()
        if name in METRICS
        and name not in OF_TOKENS
        and isinstance(value, int | float)
        and not METRICS[name].needs_tokens
    }
