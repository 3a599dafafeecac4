"""Artifacts and checkpoints hold the names of weights: changing one orphans every trained tokenizer.

weights.json was written by version 0.1.0: small examples of every autoencoder, discriminator and quantizer.
"""

import json
import pathlib

import pytest

from tokcli.autoencoders import AUTOENCODERS
from tokcli.discriminators import DISCRIMINATORS
from tokcli.quantizers import QUANTIZERS

FAMILIES = {"autoencoders": AUTOENCODERS, "discriminators": DISCRIMINATORS, "quantizers": QUANTIZERS}
PINNED = json.loads(pathlib.Path(__file__).with_name("weights.json").read_text())
EXAMPLES = [(family, entry) for family, entries in PINNED.items() for entry in entries]


def name_of(value: object) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value["node"].values()))


@pytest.mark.parametrize(("family", "entry"), EXAMPLES, ids=name_of)
def test_weights_have_the_names_and_shapes_of_the_first_version(family: str, entry: dict) -> None:
    state = FAMILIES[family].build(entry["node"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == entry["weights"]


def test_every_kind_of_the_first_version_is_pinned() -> None:
    kinds = {family: {entry["node"]["kind"] for entry in entries} for family, entries in PINNED.items()}
    assert kinds["autoencoders"] == {"vqgan", "spectral", "waveform"}
    assert kinds["discriminators"] == {"patchgan", "multi-scale-stft", "multi-period"}
    assert kinds["quantizers"] == {"vq", "simvq", "fsq", "fsp", "tokenbridge", "vaevq", "vpvae"}
