"""Samples of a probe, decoded and laid beside real ones."""

import json
import math
import pathlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokcli.backbones.inception import WEIGHT_FILE
from tokcli.backbones.weights import find_weight_file
from tokcli.contracts import Codec, RoundTrip
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError, UsageError
from tokcli.files import replacing, write_text
from tokcli.metrics.rfid import Rfid
from tokcli.probing.loading import TRAIN_SHARE, ProbeInput, choose_split
from tokcli.probing.network import REPORT, load_network
from tokcli.probing.sampling import draw_tokens
from tokcli.probing.scores import ProbeScores
from tokcli.probing.sequences import Piece, cut_grid
from tokcli.progress import Reporter
from tokcli.tokens import TokenReader, open_writer

SHOWN = 32
"""Samples on a sheet, at most, and sounds saved."""

AT_ONCE = 32
"""Sequences that are drawn, or decoded, together."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        count: how many.
        temperature: by which logits are divided.
        top_k: one of so many most probable codes is drawn; None: of all.
        seed: of the draws.
    """

    count: int
    temperature: float
    top_k: int | None
    seed: int


def save_samples(
    folder: pathlib.Path,
    row: ProbeScores,
    given: ProbeInput,
    codec: Codec,
    sampling: Sampling,
    device: torch.device,
    reporter: Reporter,
) -> ProbeScores:
    """Draw sequences from the finished probe in `folder` and decode them; the row comes back with where they are."""
    shape, reals = read_reals(given, row.protocol["context"], sampling.count)
    samples = _draw(folder, row, shape, sampling, device, reporter)
    _write_tokens(folder / "samples.npy", given, samples, shape, codec)
    signals, originals = _decode(codec, samples), _decode(codec, reals)
    facts = {**vars(sampling), "grid": list(shape), **_show(folder, given, originals, signals)}
    facts["fid"] = _compute_fid(given, originals, signals, row.name, reporter)
    done = replace(row, samples=facts)
    write_text(folder / REPORT, json.dumps(done.to_json(), indent=1, ensure_ascii=False) + "\n")
    return done


def _draw(
    folder: pathlib.Path,
    row: ProbeScores,
    shape: tuple[int, ...],
    sampling: Sampling,
    device: torch.device,
    reporter: Reporter,
) -> Tensor:
    """(count, *shape, groups) int64 on the CPU; the classes take turns."""
    network = load_network(folder, device)
    codes, classes = row.codebook_size * row.groups, max(1, row.classes)
    drawn: list[Tensor] = []
    for first in range(0, sampling.count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, sampling.count))
        drawn.append(
            draw_tokens(
                network,
                [codes + number % classes for number in numbers],
                math.prod(shape),
                row.groups,
                row.codebook_size,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                seed=sampling.seed + first,
                reporter=reporter,
            )
        )
    return torch.cat(drawn).reshape(sampling.count, *shape, row.groups)


def read_reals(given: ProbeInput, context: int, count: int) -> tuple[tuple[int, ...], Tensor]:
    """The shape of a sequence that most validation items begin with, and the tokens of real ones of that shape.

    Returns:
        (*shape), and (at most count, *shape, groups) int64.
    """
    reader = given.val or given.train
    chosen = _list_pieces(reader, given, context)
    shape = Counter(piece.shape for piece in chosen).most_common(1)[0][0]
    alike = [piece for piece in chosen if piece.shape == shape]
    spaced = [alike[number * len(alike) // min(count, len(alike))] for number in range(min(count, len(alike)))]
    tokens = []
    for piece in spaced:
        area = tuple(slice(at, at + length) for at, length in zip(piece.start, piece.shape, strict=True))
        tokens.append(reader[piece.item].tokens[area])
    return shape, torch.stack(tokens)


def _list_pieces(reader: TokenReader, given: ProbeInput, context: int) -> list[Piece]:
    held = given.val is None
    return [
        piece
        for number, record in enumerate(reader.records)
        if not held or choose_split(record.item, TRAIN_SHARE) == "val"
        for piece in cut_grid(record.grid, reader.header.groups, context, number)
    ]


@torch.no_grad()
def _decode(codec: Codec, tokens: Tensor) -> Tensor:
    """(count, *shape, groups) -> signals (count, channels, *size) on the CPU."""
    size = codec.cover(tokens.shape[1:-1])
    return torch.cat([codec.decode(part, size).cpu() for part in tokens.split(AT_ONCE)])


def _write_tokens(path: pathlib.Path, given: ProbeInput, samples: Tensor, shape: tuple[int, ...], codec: Codec) -> None:
    """The samples as a token file, which `tok decode` takes."""
    size = codec.cover(shape)
    header = replace(given.header, preprocessing={"sampled_from": "probe"})
    names = [f"sample-{number:05d}" for number in range(len(samples))]
    with open_writer(path, header, names, force=True) as writer:
        for name, tokens in zip(names, samples, strict=True):
            writer.append(name, tokens, size, size)


def _show(folder: pathlib.Path, given: ProbeInput, reals: Tensor, samples: Tensor) -> dict[str, Any]:
    """A sheet of real ones over samples; sounds also as files."""
    modality = MODALITIES[given.header.modality]
    shown = min(SHOWN, len(reals), len(samples))
    sheet = folder / "samples.png"
    image = modality.view.sheet(list(reals[:shown]), list(samples[:shown]), labels=["real", "sampled"])
    with replacing(sheet) as unfinished:
        image.save(unfinished, "PNG")
    if given.header.sample_rate is None:
        return {"sheet": str(sheet), "tokens": str(folder / "samples.npy")}
    for kind, signals in (("real", reals), ("sampled", samples)):
        for number, signal in enumerate(signals[:shown]):
            path = folder / "sounds" / f"{number:03d}-{kind}{modality.saved_suffixes[0]}"
            path.parent.mkdir(exist_ok=True)
            modality.save(path, [signal], given.header.sample_rate)
    return {"sheet": str(sheet), "tokens": str(folder / "samples.npy"), "sounds": str(folder / "sounds")}


def _compute_fid(given: ProbeInput, reals: Tensor, samples: Tensor, name: str, reporter: Reporter) -> float | None:
    """The Fréchet distance of samples to real ones as they decode; None where it cannot be told, with a note why."""
    if given.header.modality != "image":
        return None
    weights = find_weight_file(WEIGHT_FILE)
    if not weights.is_file():  # a hundred megabytes are not fetched for a figure that nobody has asked for
        reporter.note(f"{name}: no FID of the samples: Inception's weights are not at {weights}")
        return None
    try:
        fid = Rfid()
    except (UsageError, InputError) as error:
        reporter.note(f"{name}: no FID of the samples: {error}")
        return None
    count = min(len(reals), len(samples))
    if count < 2:
        return None
    for real, sample in zip(reals[:count].split(AT_ONCE), samples[:count].split(AT_ONCE), strict=True):
        fid.update(RoundTrip(real, sample, None, given.header.codebook_size))
    if fid.undersampled:
        reporter.note(f"{name}: {count} samples are few for an FID, which is then too high; thousands are usual")
    return fid.compute()
