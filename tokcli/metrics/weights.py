"""Which local file or folder of weights each metric takes, from what `--weights` and `evaluation.weights` say.

A key is a metric's name, or `lpips` for whichever LPIPS metric has the backbone whose features the file holds.
"""

from collections.abc import Mapping, Sequence

from tokcli.backbones.lpips import Backbone, recognise_backbone
from tokcli.errors import UsageError
from tokcli.spelling import nearest

Weights = Mapping[str, str]
"""Files by the name of a metric, or of a family of metrics."""

LPIPS: Mapping[str, Backbone] = {"lpips": "vgg", "lpips-alex": "alex", "lpips-squeeze": "squeeze"}
"""The metrics that take a file, by name, and the backbone whose features it must hold."""

FAMILY = "lpips"

FOLDERS = ("wer", "speaker-similarity")
"""The metrics that take the folder of a model, or its name on a hub."""


def assign_weights(asked: Sequence[str], weights: Weights) -> dict[str, str]:
    """The file of each metric among `asked` that takes one of the user's; files that none of them uses are left out.

    Raises:
        UsageError: A key is unknown.
        InputError: A file cannot be read, or is no classifier's.
    """
    known = (*LPIPS, *FOLDERS)
    unknown = [key for key in weights if key not in known]
    if unknown:
        raise UsageError(f"no weights are called '{unknown[0]}'; {nearest(unknown[0], known)}")
    files = {key: file for key, file in weights.items() if key != FAMILY and key in asked}
    if FAMILY in weights and any(name in LPIPS for name in asked):
        name = _find_metric(weights[FAMILY])
        if name in asked:
            files.setdefault(name, weights[FAMILY])
    return files


def require_use(asked: Sequence[str], weights: Weights) -> None:
    """Refuse files that no metric asked for would use. Raises TokError as `assign_weights` does, and UsageError."""
    used = assign_weights(asked, weights).values()
    for key, file in weights.items():
        if file not in used:
            metric = _find_metric(file) if key == FAMILY else key
            raise UsageError(
                f"{file} is for the metric {metric}, which was not asked for; add it: --metrics psnr,{metric}"
            )


def _find_metric(file: str) -> str:
    """The LPIPS metric of the backbone whose features `file` holds."""
    backbone = recognise_backbone(file)
    return next(name for name, used in LPIPS.items() if used == backbone)
