"""Classical codecs, to hold a tokenizer against: what everybody's files would sound or look like at the same rate.

To add one: a class in a file of this folder, and its name here.
"""

from tokcli.codecs.base import Codec
from tokcli.codecs.pictures import Jpeg, WebP
from tokcli.codecs.sounds import Opus
from tokcli.contracts import ModalityName
from tokcli.errors import UsageError
from tokcli.registry import Registry
from tokcli.schema import nearest

CODECS: Registry[Codec] = Registry("codec", {"jpeg": Jpeg, "webp": WebP, "opus": Opus}, Codec)


def build_codecs(names: list[str], modality: ModalityName) -> dict[str, Codec]:
    """The named codecs.

    Raises UsageError, with every problem in one message, for a name that is unknown or of another modality.
    """
    suitable = [name for name in CODECS if CODECS[name].modality == modality]
    problems = []
    for name in names:
        if name not in CODECS:
            problems.append(f"there is no codec '{name}'; {nearest(name, suitable)}")
        elif name not in suitable:
            kind = CODECS[name].modality
            problems.append(f"the codec '{name}' is for {kind}, not {modality}; expected one of: {', '.join(suitable)}")
    if problems:
        raise UsageError("; ".join(problems))
    return {name: CODECS.build({"kind": name}) for name in dict.fromkeys(names)}
