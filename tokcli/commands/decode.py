"""`tok decode`: tokens become files again, by the tokenizer that made them and no other.

token file -> tokens -> signals -> files under mirrored names
a generator's integers -> tokens of the tokenizer that is named -> signals -> numbered files
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tokcli.commands.decode_ledger import DecodeLedger
from tokcli.commands.foreign_tokens import find_foreign, find_grid, is_foreign, make_reader
from tokcli.data.items import Failure, group_alike
from tokcli.data.modality import MODALITIES, Modality
from tokcli.data.places import is_remote
from tokcli.errors import InterruptedRunError, MismatchError, UsageError, quote
from tokcli.exchange.sequences import format_grid
from tokcli.files import remove_abandoned, try_output
from tokcli.locking import hold, tell_former
from tokcli.models import Model, choose_named, compile_model, open_maker, open_model, pick_batch_size, pick_device
from tokcli.progress import SILENT, Reporter
from tokcli.tokens import TokenItem, TokenReader, open_tokens
from tokcli.tokens.remote import fetch_tokens

LONGEST_NAME, LONGEST_PATH = 255, 3000
"""Bytes of a file's name and of its path, suffix included, that every usual file system takes."""

POSITIONS_AT_ONCE = 10_000
"""Longer items are decoded piece by piece where the tokenizer can; a minute of sound, or so."""


@dataclass(frozen=True)
class Decoded:
    """A folder of files.

    Attributes:
        output: the folder.
        items: files in it.
        failed: items that the token file lists as never encoded.
        model: that decoded them.
        published: where a tokenizer of another library is from, with its revision; None for one of tok's.
    """

    output: pathlib.Path
    items: int
    failed: Sequence[Failure]
    model: str
    published: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = {name: value for name, value in asdict(self).items() if name != "published" or value is not None}
        return plain | {"output": str(self.output)}


def decode(
    tokens: str,
    output: str,
    *,
    model: str | None = None,
    codebook: int | None = None,
    groups: int | None = None,
    grid: str | None = None,
    size: Sequence[int] | None = None,
    file_format: str | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
    compiled: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Decoded:
    """Decode every item of a token file into the folder `output`, under the names of the originals.

    Integers without a header, as a generator saves them, are taken as tokens of `model` and numbered.

    Args:
        tokens: what `encode` wrote, here or elsewhere (`s3://`), or integers: .npy, .safetensors, .bin, or anything
            that `tok export` writes.
        output: a folder for the files.
        model: a file, a run folder or a shipped name; None takes $TOK_MODEL, else what the tokens name, else the last
            finished run or the shipped tokenizer whose fingerprints they carry.
        codebook: which of the built ones, by its size, where the tokens have no header.
        groups: decode from so many of the first tokens of a position, where there are several; None: from all.
        grid: positions of an item as HxW, where the tokens have no header.
        size: of what is decoded, in samples along each axis, where the tokens have no header; None: all that the grid
            covers.
        file_format: of the files, as their suffix without the dot; None takes the usual one, PNG or WAV.
        batch_size: items at a time; None chooses by the device.
        resume: go on with an interrupted decode.
        force: overwrite.
        compiled: compile the network first.
        device: auto, cpu, cuda or mps.
        reporter: is told what happens.

    Raises:
        UsageError: where files are in the way or are not written in that format.
        MismatchError: where another tokenizer made the tokens, or the file is damaged; where what is to be resumed was
            begun with other tokens.
        BusyError: where another process decodes into the folder.
        InterruptedRunError: where the user stopped it; the files decoded so far are kept.
    """
    if is_remote(output):
        raise UsageError(f"{output}: decoded files go to a disk: -o FOLDER here, and copy that")
    folder = pathlib.Path(output)
    try_output(folder, folder=True)
    with fetch_tokens(tokens) as path:
        picked = pick_device(device)
        if is_foreign(path):
            reader, opened = _open_foreign(path, model, codebook, grid, size, picked, reporter)
        else:
            reader, opened = _open_own(path, model, file_format, picked, reporter)
            _refuse_flags(path, {"--grid": grid, "--size": size, "--codebook": codebook})
        if compiled:
            compile_model(opened)
        modality = MODALITIES[reader.header.modality]
        suffix = modality.choose_suffix(file_format)
        if not folder.is_dir() and folder.suffix.lower() in modality.suffixes:
            raise UsageError(f"{folder} is the name of a file; -o names a folder for the decoded files")
        _check_sizes(reader, opened)
        _check_groups(reader, opened, groups)
        outputs, refused = _name_outputs([record.item for record in reader.records], modality, suffix)
        with hold(folder / ".decode.lock", folder) as lock:
            tell_former(lock, reporter)
            ledger = DecodeLedger(folder, identify(reader, suffix, groups), outputs, resume=resume, force=force)
            if ledger.done:
                reporter.note(f"going on behind {len(ledger.done)} files that were decoded before")
            _write_files(reader, opened, folder, outputs, ledger, groups, batch_size, reporter)
        failures = [Failure(name, reason) for name, reason in refused.items()]
        record = opened.describe_tokens({}).published
        return Decoded(folder, len(outputs), [*reader.failed, *failures], opened.short_name, record)


def _name_outputs(names: Sequence[str], modality: Modality, suffix: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The file of each item, by name, and why others can have none. Raises MismatchError where none can."""
    outputs = {name: stem + suffix for name, stem in zip(names, modality.strip_suffixes(names), strict=True)}
    refused = find_unwritable(outputs)
    outputs = {name: place for name, place in outputs.items() if name not in refused}
    if not outputs:
        name, reason = next(iter(refused.items()))
        raise MismatchError(f"none of the items can be written; the first, {quote(name)}: {reason}")
    return outputs, refused


def _refuse_flags(path: pathlib.Path, flags: Mapping[str, Any]) -> None:
    given = [flag for flag, value in flags.items() if value is not None]
    if given:
        raise UsageError(f"{path} says in its header what {given[0]} would; leave the flag out")


def _open_own(
    path: pathlib.Path, model: str | None, file_format: str | None, device: torch.device, reporter: Reporter
) -> tuple[TokenReader, Model]:
    """Tokens with a header, and the tokenizer that made them."""
    reader = open_tokens(path)
    MODALITIES[reader.header.modality].choose_suffix(file_format)
    for _ in reader:
        pass  # reading checks each item, so that a damaged file is refused before anything is written
    return reader, open_maker(model, device, reporter, path, reader.header)


def _open_foreign(
    path: pathlib.Path,
    model: str | None,
    codebook: int | None,
    grid: str | None,
    size: Sequence[int] | None,
    device: torch.device,
    reporter: Reporter,
) -> tuple[TokenReader, Model]:
    """Tokens without a header, taken as those of `model`, and that."""
    foreign = find_foreign(path)
    named = choose_named(model, foreign.made_by.get("model"))
    opened = open_model(named, device, reporter, codebook or foreign.meta.get("codebook_size"))
    if size is not None and len(size) == 1 and opened.codec.modality == "image":
        size = (*size, *size)
    reader = make_reader(foreign, opened, find_grid(grid, size, opened), size)
    shape = format_grid(reader.grid) if reader.grid else "several sizes"
    reporter.note(
        f"{path} has no header: taken as {len(reader)} items of {shape} tokens of {opened.name}"
        + ("" if grid or size or foreign.meta else " (--grid says otherwise)")
    )
    return reader, opened


def identify(reader: TokenReader, suffix: str, groups: int | None = None) -> str:
    """A sum of all that decides what the files hold: the tokens, their names and sizes, whose they are, the format.

    groups: that are decoded, where those are not all.
    """
    told = [suffix, reader.header.to_json(), *([groups] if groups is not None else [])]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for item in reader:
        digest.update(f"{item.name!a} {item.signal_size} {tuple(item.tokens.shape)}".encode())
        digest.update(item.tokens.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_files(
    reader: TokenReader,
    model: Model,
    folder: pathlib.Path,
    outputs: Mapping[str, str],
    ledger: DecodeLedger,
    groups: int | None,
    batch_size: int | None,
    reporter: Reporter,
) -> None:
    """Decode the items that `outputs` names and that are not done, in batches of items alike, into their files."""
    modality = MODALITIES[reader.header.modality]
    for place in {(folder / name).parent for name in outputs.values()}:
        remove_abandoned(place)
    written = len(ledger.done)
    try:
        with reporter.task("decoding", len(reader), "items", written) as task:
            batches = group_alike(
                (item for item in reader if item.name in outputs and item.name not in ledger.done),
                batch_size or pick_batch_size(model.device),
                lambda item: (item.tokens.shape, item.signal_size),
            )
            for group in batches:
                for item, pieces in zip(group, _decode_group(model, group, groups), strict=True):
                    modality.save(folder / outputs[item.name], pieces, reader.header.sample_rate)
                    ledger.add(item.name)
                    written += 1
                task.advance(len(group))
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"stopped after {written} of {len(outputs)} files; the same command with --resume goes on"
        ) from None
    finally:
        ledger.close()
    ledger.finish()


def _check_sizes(reader: TokenReader, model: Model) -> None:
    """Refuse, with a MismatchError, items that ask for more samples than their tokens stand for."""
    for record in reader.records:
        size, grid = record.signal_size, record.grid
        needed = model.codec.grid(size)
        if len(needed) != len(grid) or any(more > held for more, held in zip(needed, grid, strict=True)):
            raise MismatchError(
                f"{reader.path}: {record.item} is said to be {'×'.join(map(str, size))} samples large, which its "
                f"{'×'.join(map(str, grid))} tokens do not make"
            )


def find_unwritable(outputs: Mapping[str, str]) -> dict[str, str]:
    """The items, by name, whose output is a path that no file can be written at, each with the reason."""
    refused = {}
    for name, path in outputs.items():
        try:
            parts = [len(part.encode()) for part in path.split("/")]
        except UnicodeEncodeError:
            refused[name] = "no file can be written under a name that is not UTF-8"
            continue
        if "\0" in name:
            refused[name] = "no file can be written under a name that holds a NUL"
        elif max(parts) > LONGEST_NAME or sum(parts) > LONGEST_PATH:
            refused[name] = "no file can be written under a name that long"
    return refused


def _check_groups(reader: TokenReader, model: Model, groups: int | None) -> None:
    """Refuse groups that are not there, with a UsageError, or that the model cannot decode, with a MismatchError."""
    held, prefixes = reader.header.groups, model.codec.prefixes
    known = ", ".join(map(str, prefixes))
    if held not in prefixes:
        raise MismatchError(f"{reader.path} has {held} tokens at a position, and {model.name} decodes {known}")
    if groups is not None and groups not in [number for number in prefixes if number <= held]:
        known = ", ".join(str(number) for number in prefixes if number <= held)
        raise UsageError(f"--groups: {reader.path} can be decoded from the first {known} groups, got {groups}")


def _decode_group(model: Model, group: list[TokenItem], groups: int | None) -> Iterator[Iterable[torch.Tensor]]:
    """Each item's signal in pieces (channels, *size) on the CPU; long ones are decoded as they are consumed."""
    codec = model.codec
    size = group[0].signal_size
    stacked = torch.stack([item.tokens[..., :groups] for item in group]).to(model.device)
    if codec.streams and stacked.shape[1] > POSITIONS_AT_ONCE:
        for tokens in stacked:
            yield (piece.cpu() for piece in codec.decode_stream(tokens, size))
    else:
        for signal in codec.decode(stacked, size).cpu():
            yield [signal]
