"""What a probe learns from and is evaluated on: token files, opened, matched, labelled and held in memory."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from tokcli.data.items import Failure
from tokcli.errors import MismatchError, UsageError
from tokcli.exchange.about import Labels, LabelSource, find_about, find_labels
from tokcli.exchange.base import choose_split
from tokcli.probing.protocols import Protocol
from tokcli.probing.sequences import Sequences
from tokcli.tokens import TokenHeader, TokenReader, open_tokens

TRAIN_SHARE = 0.9
"""Of the items, where no other set is given to evaluate on."""

SMALLEST_BATCHES = 4
"""Batches of sequences that a set must make: less is learnt by heart at once."""

UNLABELLED = "it has no label, and others have one"


@dataclass(frozen=True)
class ProbeInput:
    """The tokens of one tokenizer.

    Attributes:
        name: of the row of the table.
        train: the file that is learnt from.
        val: the file that is evaluated on; None: items of the first are held out.
    """

    name: str
    train: TokenReader
    val: TokenReader | None

    @property
    def header(self) -> TokenHeader:
        """What holds for both files."""
        return self.train.header

    def identify(self) -> dict[str, Any]:
        """What tells these tokens from others, without reading them."""
        return {"train": _identify(self.train), "val": None if self.val is None else _identify(self.val)}


@dataclass(frozen=True)
class ProbeData:
    """The same as sequences, in memory.

    Attributes:
        train: what is learnt from.
        val: what is evaluated on.
        samples: of the signals that `val` stands for: pixels or samples.
        labels: the classes that sequences are conditioned on.
        failed: items left out.
    """

    train: Sequences
    val: Sequences
    samples: int
    labels: Labels
    failed: list[Failure]


def open_inputs(tokens: Sequence[str], val: Sequence[str]) -> list[ProbeInput]:
    """Open all files and see that each belongs to its validation set.

    Raises:
        UsageError: where there are not as many validation sets as sets, or two share a name.
        MismatchError: where two tokenizers made a set and its validation set.
        InputError: where there is no such file.
    """
    if val and len(val) != len(tokens):
        raise UsageError(
            f"--val names {len(val)} token files for {len(tokens)}: name one for each, in the same order, or none"
        )
    names = name_inputs(tokens)
    inputs = []
    for number, (name, path) in enumerate(zip(names, tokens, strict=True)):
        train, other = open_tokens(path), open_tokens(val[number]) if val else None
        if other is not None:
            _require_same_tokenizer(train, other)
        inputs.append(ProbeInput(name, train, other))
    return inputs


def name_inputs(tokens: Sequence[str]) -> list[str]:
    """What each set is called: its file's name without the ending, and its folder's where names agree."""
    paths = [pathlib.Path(path).absolute() for path in tokens]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}-{path.stem}" for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two token files are called {twice}; rename one of them, or leave one out")
    return names


def _require_same_tokenizer(train: TokenReader, val: TokenReader) -> None:
    for what in ("network_fingerprint", "codebook_fingerprint", "codebook_size", "groups", "modality"):
        own, other = getattr(train.header, what), getattr(val.header, what)
        if own != other:
            words = what.replace("_", " ")
            raise MismatchError(
                f"{val.path} was made by another tokenizer than {train.path}: its {words} is {str(other)[:12]}, not "
                f"{str(own)[:12]}; encode both sets with one tokenizer"
            )


def load_data(
    given: ProbeInput, protocol: Protocol, about: Mapping[str, dict[str, Any]], source: LabelSource
) -> ProbeData:
    """Read both sets.

    Raises:
        UsageError: where a set is too small, or labels are asked for and not there.
        MismatchError: where a file is damaged.
    """
    entries = _choose_items(given)
    names = [reader.records[index].item for reader, index, _ in entries]
    known = [
        {**reader.records[index].about, **find_about(about, reader.records[index].item)} for reader, index, _ in entries
    ]
    labels = find_labels(names, known, source)
    items: dict[str, list[numpy.ndarray]] = {"train": [], "val": []}
    numbers: dict[str, list[int]] = {"train": [], "val": []}
    failed, samples = [], 0
    for (reader, index, split), own in zip(entries, known, strict=True):
        item = reader[index]
        label = labels.find_number(item.name, own) if labels.count else 0
        if label is None:
            failed.append(Failure(item.name, UNLABELLED))
            continue
        items[split].append(item.tokens.numpy().astype(reader.header.dtype))
        numbers[split].append(label)
        samples += numpy.prod(item.signal_size, dtype=int) if split == "val" else 0
    return ProbeData(
        _make_sequences("train", given, protocol, items, numbers if labels.count else None),
        _make_sequences("val", given, protocol, items, numbers if labels.count else None),
        int(samples),
        labels,
        failed,
    )


def _choose_items(given: ProbeInput) -> list[tuple[TokenReader, int, str]]:
    """Every item with its file and its set."""
    if given.val is not None:
        return [(reader, index, split) for reader, split in ((given.train, "train"), (given.val, "val"))
                for index in range(len(reader))]  # fmt: skip
    return [
        (given.train, index, choose_split(record.item, TRAIN_SHARE)) for index, record in enumerate(given.train.records)
    ]


def _make_sequences(
    split: str,
    given: ProbeInput,
    protocol: Protocol,
    items: Mapping[str, list[numpy.ndarray]],
    numbers: Mapping[str, list[int]] | None,
) -> Sequences:
    reader = given.val if split == "val" and given.val is not None else given.train
    use = "learn from" if split == "train" else "evaluate on"
    held = f" ({1 - TRAIN_SHARE:.0%} of its items, held out)" if split == "val" and given.val is None else ""
    if not items[split]:
        raise UsageError(f"{reader.path} has no items to {use}{held}; encode more, or name others with --val")
    header = given.header
    labels = numbers[split] if numbers is not None else None
    made = Sequences(items[split], labels, header.codebook_size, protocol.context)
    wanted = SMALLEST_BATCHES * protocol.training.batch_size if split == "train" else 1
    if len(made) < wanted:
        raise UsageError(
            f"{reader.path} makes {len(made)} sequences of up to {protocol.context} tokens to {use}, and "
            f"{protocol.name} wants {wanted} at least; encode more items"
        )
    return made


def _identify(reader: TokenReader) -> dict[str, Any]:
    digest = hashlib.sha256()
    for record in reader.records:
        digest.update(repr(record).encode("utf-8", "surrogateescape"))
    return {"header": reader.header.to_json(), "items": len(reader), "records": digest.hexdigest()}


def compute_identity(given: ProbeInput, protocol: Protocol, seed: int, labelling: Any) -> str:
    """A sha256 sum of all that a probe's figures depend on."""
    facts = {"tokens": given.identify(), "protocol": protocol.to_json(), "seed": seed, "labels": labelling}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
