"""The sheet: originals, and under them what every model and codec made of them, in one picture."""

import pathlib
from collections.abc import Sequence

from tokcli.data.modality import MODALITIES
from tokcli.evaluation.scores import Evaluation
from tokcli.files import replacing


def save_sheet(path: pathlib.Path, evaluations: Sequence[Evaluation]) -> None:
    """Write the examples that `evaluations` kept, all of the same items, as one PNG with a labelled row for each."""
    first = evaluations[0]
    rows = [[example.reference for example in first.judgement.examples]]
    rows += [[example.reconstruction for example in each.judgement.examples] for each in evaluations]
    view = MODALITIES[first.source.modality].view
    picture = view.sheet(*rows, labels=["original", *(each.label for each in evaluations)])
    with replacing(path) as unfinished:
        picture.save(unfinished, format="PNG")
