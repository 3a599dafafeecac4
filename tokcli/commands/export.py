"""`tok export`: token files become what the field's generators read; `tok import` is the way back.

token file -> parts of the format, each whole or not there -> output
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokcli.data.items import Failure
from tokcli.errors import InputError, UsageError
from tokcli.exchange import EXCHANGE_FORMATS, ExchangeFormat, ExchangeItem, TokenSet, build_format
from tokcli.exchange.about import Labels, LabelSource, find_about, find_labels, read_about
from tokcli.exchange.base import META
from tokcli.exchange.staging import Staging
from tokcli.files import try_output, write_text
from tokcli.locking import hold, lock_beside, tell_former
from tokcli.progress import SILENT, Reporter
from tokcli.tokens import TokenReader, TokenRecord, open_tokens

ITEMS_PER_PART = 10_000

UNLABELLED = "it has no label, and others have one"


@dataclass(frozen=True)
class Exported:
    """An export that is whole.

    Attributes:
        output: the file or folder.
        format: its kind.
        items: how many it holds.
        failed: items that it does not hold, with the reason.
        labels: classes; 0 where items have no label.
        meta: what `meta.json` says.
    """

    output: pathlib.Path
    format: str
    items: int
    failed: Sequence[Failure]
    labels: int
    meta: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


def export(
    tokens: str,
    output: str,
    *,
    to: str,
    options: Mapping[str, Any] | None = None,
    about: str | None = None,
    labels: LabelSource = "auto",
    part_items: int = ITEMS_PER_PART,
    resume: bool = False,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Exported:
    """Write a token file in a format that generators read.

    Args:
        tokens: a token file of any form.
        output: a folder, or a file where the format can be one.
        to: the format's kind.
        options: arguments of the format's constructor.
        about: a CSV or JSONL file of labels, captions and metadata, joined by item name.
        labels: where labels come from.
        part_items: items of a part: a tar, a parquet file, and what an interruption costs at most.
        resume: go on with an interrupted export.
        force: overwrite what is there.
        reporter: is told how far it is.

    Raises:
        UsageError: for a format or option that there is not, or a set that the format cannot hold.
        InputError: where there are no tokens, or no item has what the format needs.
    """
    kind = EXCHANGE_FORMATS[to]
    options = dict(options or {})
    format_ = build_format(to, options)
    reader = open_tokens(tokens)
    target = pathlib.Path(output)
    try_output(target, folder=target.is_dir() or not target.suffix)
    single_file = _find_single_suffix(target, kind, to)
    known = read_about(pathlib.Path(about)) if about is not None else {}
    names = [record.item for record in reader.records]
    classes = find_labels(names, (_join_about(record, known) for record in reader.records), labels)
    token_set = _describe_tokens(reader, classes)
    format_.check(token_set)
    identity = {"tokens": _identify(reader), "format": to, "options": options, "part_items": part_items}
    identity |= {"labels": hashlib.sha256(repr((classes, sorted(known))).encode()).hexdigest()}
    with hold(lock_beside(target), target) as lock:
        tell_former(lock, reporter)
        staging = Staging(target, identity, resume=resume, force=force)
        _write_parts(format_, reader, token_set, classes, known, staging, part_items, reporter)
        return _publish(format_, to, staging, token_set, reader.failed, single_file)


def _write_parts(
    format_: ExchangeFormat,
    reader: TokenReader,
    token_set: TokenSet,
    classes: Labels,
    about: Mapping[str, dict[str, Any]],
    staging: Staging,
    part_items: int,
    reporter: Reporter,
) -> None:
    """Write every part that the ledger does not list."""
    first = len(staging.done) * part_items
    if first:
        reporter.note(f"going on behind {min(first, len(reader))} items that were exported before")
    items = _read_items(reader, classes, about, first)
    with reporter.task("exporting", len(reader), "items", done=min(first, len(reader))) as task:
        for part in itertools.count(len(staging.done)):
            taken = list(itertools.islice(items, part_items))
            if not taken:
                break
            failed = [item.name for item in taken if classes.count and item.label is None]
            whole = [item for item in taken if not classes.count or item.label is not None]
            format_.write_part(whole, token_set, staging.parts, part)
            staging.finish_part({"items": len(whole), "failed": [(name, UNLABELLED) for name in failed]})
            task.advance(len(taken))


def _publish(
    format_: ExchangeFormat,
    to: str,
    staging: Staging,
    token_set: TokenSet,
    unread: Sequence[Failure],
    single_file: str | None,
) -> Exported:
    """Join the parts, all of which are whole, and put the output in its place."""
    failed = [*unread, *(Failure(*each) for part in staging.done for each in part["failed"])]
    items = sum(part["items"] for part in staging.done)
    if not items:
        first = failed[0]
        raise InputError(f"none of the {token_set.items} items could be exported; {first.item}: {first.reason}")
    meta = _describe_export(to, token_set, format_, items)

    def join(folder: pathlib.Path) -> None:
        format_.join_parts(staging.parts, len(staging.done), token_set, folder)
        if single_file is None:
            write_text(folder / META, json.dumps(meta, indent=1, ensure_ascii=False) + "\n")

    staging.publish(join, single_file)
    return Exported(staging.output, to, items, failed, token_set.labels, meta)


def _read_items(
    reader: TokenReader, classes: Labels, about: Mapping[str, dict[str, Any]], first: int
) -> Iterator[ExchangeItem]:
    for index in range(first, len(reader)):
        item = reader[index]
        own = _join_about(reader.records[index], about)
        yield ExchangeItem(
            name=item.name,
            tokens=item.tokens.numpy(),
            original_size=item.original_size,
            signal_size=item.signal_size,
            about=own,
            label=classes.find_number(item.name, own) if classes.count else None,
        )


def _join_about(record: TokenRecord, about: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the token file says about an item, and over it what a file of metadata says."""
    return {**record.about, **find_about(about, record.item)}


def _find_single_suffix(target: pathlib.Path, kind: type[ExchangeFormat], to: str) -> str | None:
    """The suffix of the one file that the output is; None where it is a folder."""
    if not target.suffix or target.is_dir():
        return None
    if target.suffix == kind.file_suffix:
        return kind.file_suffix
    wanted = f"a folder, or a file NAME{kind.file_suffix}" if kind.file_suffix else "a folder"
    raise UsageError(f"-o {target}: {to} is written to {wanted}")


def _describe_tokens(reader: TokenReader, classes: Labels) -> TokenSet:
    header = reader.header
    return TokenSet(
        codebook_size=header.codebook_size,
        groups=header.groups,
        modality=header.modality,
        items=len(reader),
        grid=reader.grid,
        labels=classes.count,
        classes=classes.classes,
        header=header.to_json(),
    )


def _identify(reader: TokenReader) -> dict[str, Any]:
    """What tells one token file from another, without reading its tokens."""
    digest = hashlib.sha256()
    for record in reader.records:
        digest.update(repr(record).encode("utf-8", "surrogateescape"))
    return reader.header.to_json() | {"items": len(reader), "records": digest.hexdigest()}


def _describe_export(to: str, tokens: TokenSet, format_: ExchangeFormat, items: int) -> dict[str, Any]:
    return {
        "format": "tok-export/1",
        "kind": to,
        "items": items,
        "codebook_size": tokens.codebook_size,
        "groups": tokens.groups,
        "modality": tokens.modality,
        "grid": tokens.grid and list(tokens.grid),
        "classes": list(tokens.classes),
        "labels": tokens.labels,
        **format_.describe(tokens),
        "tokens": dict(tokens.header),
    }
