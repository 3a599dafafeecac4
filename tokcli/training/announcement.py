"""What a run says before the first step: how large the model is, what its tokens cost, how much data there is.

And what is likely to be a mistake: files that are in both halves, crops larger than the pictures, one token an item.
"""

import contextlib
import math

from tokcli.artifacts.artifact import codebook_ready
from tokcli.contracts import Source, compute_rate
from tokcli.data.files import describe_skipped
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError
from tokcli.progress import Reporter
from tokcli.training.parts import Training
from tokcli.training.run_folder import RunFolder

LOOKED_AT = 8
"""Items that are read to see whether crops fit into them."""


def announce(training: Training, reporter: Reporter) -> None:
    """Note what the run trains, on what and on what it is judged, and each likely mistake."""
    items = training.recipe.evaluation.items
    trained, evaluated = describe_training(training.train_source), describe_evaluation(training.eval_source, items)
    reporter.note(f"{describe_model(training)}; training on {trained}; judged on {evaluated}")
    for warning in (warn_of_one_token(training), warn_of_large_crops(training.train_source)):
        if warning:
            reporter.note(warning)
    for skipped in (describe_skipped(training.train_source.files), describe_skipped(training.eval_source.files)):
        if skipped is not None:
            reporter.note(skipped)
    shared = find_shared_files(training.train_source, training.eval_source, items)
    if shared:
        count = count_evaluated(training.eval_source, items)
        reporter.note(
            f"{shared} of the {count} files to judge on {'is' if shared == 1 else 'are'} also trained on, which "
            "flatters the figures: point data.train.path and data.eval.path at two folders, or at two lists "
            "(train.txt, val.txt, a path a line)"
        )


def announce_codebook(training: Training, run: RunFolder, reporter: Reporter) -> None:
    """Note, where the run will end without a codebook, that its figures are provisional and what builds one."""
    if training.recipe.codebook is None and not codebook_ready(training.tokenizer):
        kind = training.recipe.quantizer["kind"]
        place = f" {run.path}" if run.marker.exists() else ""  # a dry run's folder is gone by then
        reporter.note(
            f"'{kind}' has no codebook until one is built: figures are provisional until then; after the training run: "
            f"tok build-codebook{place}"
        )


def describe_model(training: Training) -> str:
    """`0.11 M parameters, K = 1000, stride 4, 256 tokens a picture of 64², 0.623 bits per pixel; bf16 on cpu`."""
    tokenizer = training.tokenizer
    count = sum(parameter.numel() for parameter in tokenizer.parameters())
    groups = tokenizer.quantizer.groups
    codes = f"K = {tokenizer.codebook_size}" + (f" in each of {groups} groups" if groups > 1 else "")
    facts = [
        f"{count / 1e6:.3g} M parameters",
        codes,
        f"stride {tokenizer.autoencoder.stride}",
        describe_rate(training),
    ]
    device = training.accelerator.device.type
    processes = training.accelerator.num_processes
    shared = f", {processes} processes" if processes > 1 else ""
    return f"{', '.join(facts)}; {training.recipe.training.precision} on {device}{shared}"


def describe_rate(training: Training) -> str:
    """Tokens and bits, as `256 tokens a picture of 64², 0.623 bits per pixel` or `... tokens a second, 1.67 kbps`."""
    tokenizer, modality = training.tokenizer, MODALITIES[training.tokenizer.modality]
    bits = tokenizer.quantizer.groups * math.log2(tokenizer.codebook_size)
    stride, sample_rate = tokenizer.autoencoder.stride, tokenizer.sample_rate
    if sample_rate is not None:
        rate = compute_rate(bits, stride, sample_rate)
        return f"{sample_rate / stride * tokenizer.quantizer.groups:.4g} tokens a second, {rate.value:.3g} kbps"
    rate = compute_rate(bits, stride**2)
    size = training.eval_source.describe().size or training.train_source.describe().size
    tokens = f"{count_tokens(training, size)} tokens a {modality.nouns[0]} of {size}², " if size else ""
    return f"{tokens}{rate.value:.3g} bits per pixel"


def count_tokens(training: Training, size: int) -> int:
    """Tokens of an item of so many pixels a side, or of so many samples."""
    axes = 1 if training.tokenizer.sample_rate is not None else 2
    return math.prod(training.tokenizer.grid([size] * axes)) * training.tokenizer.quantizer.groups


def warn_of_one_token(training: Training) -> str | None:
    """A sentence where an item of training has one position; None where it has more."""
    size = training.train_source.describe().size
    if size is None or count_tokens(training, size) > training.tokenizer.quantizer.groups:
        return None
    noun = MODALITIES[training.tokenizer.modality].nouns[0]
    return (
        f"one token stands for a whole {noun} of training: its size, {size}, is no larger than the stride, "
        f"{training.tokenizer.autoencoder.stride}; set data.train.size to several strides"
    )


def warn_of_large_crops(source: Source) -> str | None:
    """A sentence where files are smaller than the crops that are taken of them, by a look at a few; else None."""
    described = source.describe()
    if described.size is None or described.crop is None or described.made is not None:
        return None
    seen = []
    for place in range(min(LOOKED_AT, len(source))):
        with contextlib.suppress(InputError):  # told when training meets it
            seen.append(min(source.load(place * len(source) // min(LOOKED_AT, len(source))).original_size))
    small = [size for size in seen if size < described.size]
    if not small:
        return None
    modality = MODALITIES[source.modality]
    unit, done = ("pixels", "enlarged") if source.sample_rate is None else ("samples", "followed by silence")
    return (
        f"crops of {described.size} {unit} are larger than the {modality.nouns[1]}: {len(small)} of {len(seen)} looked "
        f"at have {min(small)} or more, and are {done}; set data.train.size to at most that"
    )


def describe_training(source: Source) -> str:
    """`684 pictures, crops of 64²`; a source that makes its signals has no end."""
    endless = source.describe().made is not None
    count = "endless" if endless else str(len(source))
    return f"{count} {_things(source)}{', none of them twice' if endless else ''}"


def describe_evaluation(source: Source, items: int | None) -> str:
    """`100 pictures of 256²`, and of how many, where the recipe judges only on the first `items`."""
    count = count_evaluated(source, items)
    among = f"the first {count} of " if count < len(source) else ""
    return f"{among}{len(source)} {_things(source)}"


def count_evaluated(source: Source, items: int | None) -> int:
    """How many items of the source an evaluation of at most `items` judges."""
    return len(source) if items is None else min(items, len(source))


def _things(source: Source) -> str:
    """What the items are and what becomes of each: `pictures, crops of 64²`, `sounds, whole`."""
    described = source.describe()
    made = f" ({described.made})" if described.made else ""
    noun = MODALITIES[source.modality].nouns[len(source) != 1 or bool(made)] + made
    size = described.size
    if size is None:
        return f"{noun}, whole"
    if source.sample_rate is not None:
        return f"{noun}, clips of {size / source.sample_rate:.3g} s"
    return f"{noun}, crops of {size}²" if described.crop == "random" else f"{noun} of {size}²"


def find_shared_files(trained: Source, evaluated: Source, items: int | None = None) -> int:
    """How many of the files among the first `items` of `evaluated` are files of `trained` too, links followed."""
    if trained.files is None or evaluated.files is None:
        return 0
    return len(set(evaluated.files.resolved(items)).intersection(trained.files.resolved()))
