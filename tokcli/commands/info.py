"""`tok info`: what a tokenizer or a token file is, from its own words."""

import pathlib
from dataclasses import asdict
from typing import Any

from tokcli.artifacts import load_artifact
from tokcli.artifacts.artifact import FORMAT, Artifact, codebook_ready
from tokcli.artifacts.fingerprint import compute_fingerprints
from tokcli.artifacts.tensors import read_metadata
from tokcli.errors import InputError, MismatchError
from tokcli.tokens import open_tokens
from tokcli.training.checkpoint import find_newest_checkpoint
from tokcli.training.run_folder import RunFolder


def info(path: str) -> dict[str, Any]:
    """Plain values that describe an artifact, a run folder or a token file.

    Raises InputError where there is nothing, MismatchError where it is none of these.
    """
    place = pathlib.Path(path)
    if not place.exists():
        raise InputError(f"there is nothing at {place}; expected an artifact, a run folder or a token file")
    run = RunFolder(place)
    if place.is_dir() and run.started:
        if run.artifact.exists():
            return {"run": str(place), **_describe_artifact(run.artifact)}
        newest = find_newest_checkpoint(run.checkpoints)
        return {
            "run": str(place),
            "finished": False,
            "checkpoint": str(newest) if newest else None,
            "next": "the command that started it goes on with it",
        }
    if place.suffix == ".safetensors" and _is_artifact(place):
        return _describe_artifact(place)
    return _token_facts(place)


def _is_artifact(path: pathlib.Path) -> bool:
    try:
        return FORMAT in read_metadata(path).get("format", "")
    except MismatchError:
        return False


def _describe_artifact(path: pathlib.Path) -> dict[str, Any]:
    artifact: Artifact = load_artifact(path)
    tokenizer, recipe = artifact.tokenizer, artifact.recipe
    quantizer = tokenizer.quantizer
    sums = compute_fingerprints(tokenizer, recipe) if codebook_ready(tokenizer) else None
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
        "licence": recipe.licence,
        "network_fingerprint": sums.network if sums else None,
        "codebook_fingerprint": sums.codebook if sums else None,
        "steps": artifact.training.get("steps"),
        "metrics": artifact.training.get("metrics", {}),
        "codebooks": [asdict(report) for report in artifact.codebooks],
        "recipe": recipe.to_dict(),
    }


def _token_facts(path: pathlib.Path) -> dict[str, Any]:
    reader = open_tokens(path)
    header = reader.header
    return {
        "tokens": str(path),
        "items": len(reader),
        "failed": [asdict(failure) for failure in reader.failed],
        "modality": header.modality,
        "codebook_size": header.codebook_size,
        "groups": header.groups,
        "dtype": str(header.dtype),
        "sample_rate": header.sample_rate,
        "weights": header.weights,
        "preprocessing": header.preprocessing,
        "network_fingerprint": header.network_fingerprint,
        "codebook_fingerprint": header.codebook_fingerprint,
    }
