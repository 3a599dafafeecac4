"""Classical codecs, to hold a tokenizer against: what everybody's files would sound or look like at the same rate.

To add one:

1. Write a class of `ClassicalCodec` (base.py) in image.py, audio.py or a file of its own.
2. Declare `modality` and `settings`, the qualities it can be asked for, the cheapest first.
3. Write `compress` and `decompress`; lengths come back exact or longer, and `header_bytes` counts what is no signal.
4. Say in `protocol` which library and options the figures depend on.
5. Add its name to the table below.
6. Run tests/codecs/test_contract.py, which takes every member of the table.
"""

from tokcli.codecs.audio import Opus
from tokcli.codecs.base import ClassicalCodec
from tokcli.codecs.image import Jpeg, WebP
from tokcli.contracts import ModalityName
from tokcli.errors import UsageError
from tokcli.registry import Registry
from tokcli.spelling import nearest

CODECS: Registry[ClassicalCodec] = Registry("codec", {"jpeg": Jpeg, "webp": WebP, "opus": Opus}, ClassicalCodec)


def build_codecs(names: list[str], modality: ModalityName) -> dict[str, ClassicalCodec]:
    """The named codecs.

    Raises:
        UsageError: A name is unknown or of another modality; every problem is in one message.
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
