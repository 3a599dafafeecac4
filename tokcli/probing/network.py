"""The probe's network: a causal language model of `transformers`, which the folder of a probe gives back to it.

    AutoModelForCausalLM.from_pretrained("probes/tokens")

Its vocabulary is the codes of every group, one group behind another, then the starts: one for each class, or one alone.
"""

import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.files import explain, sync_all, write_text
from tokcli.optional import require
from tokcli.probing.protocols import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPORT = "probe.json"
"""Beside the weights: the figures of the probe."""


def require_transformers() -> ModuleType:
    """The library, also beside a torchvision that does not fit torch. Raises UsageError where it is not installed."""
    let_torchvision_import()
    transformers = require("transformers", extra="probe")
    transformers.utils.logging.disable_progress_bar()  # bars are drawn by the command line alone
    return transformers


def build_network(protocol: Protocol, first_start: int, starts: int, seed: int) -> "PreTrainedModel":
    """A new network; torch's own generator is left alone.

    Args:
        protocol: its sizes.
        first_start: the id behind the last code.
        starts: ids that a sequence can start with.
        seed: of its weights.

    Raises:
        UsageError: where transformers is not installed.
    """
    transformers = require_transformers()
    config = transformers.LlamaConfig(
        vocab_size=first_start + starts,
        hidden_size=protocol.width,
        intermediate_size=protocol.inner_width,
        num_hidden_layers=protocol.layers,
        num_attention_heads=protocol.heads,
        max_position_embeddings=protocol.context,
        tie_word_embeddings=protocol.tied,
        bos_token_id=first_start,
        eos_token_id=None,
        pad_token_id=None,
        use_cache=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def save_network(network: "PreTrainedModel", report: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Fill the new folder `folder` with what transformers loads, and the figures beside it.

    Raises OSError where it cannot be written: the disk is full.
    """
    network.config.use_cache = True
    try:
        network.save_pretrained(folder)
    except SafetensorError as error:  # for a full disk too
        raise explain(error, folder / "model.safetensors") from error
    permissions = (folder / "config.json").stat().st_mode & 0o777
    for file in folder.glob("*.safetensors"):  # which transformers lets nobody else read
        file.chmod(permissions)
    write_text(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    sync_all(folder)


def load_network(folder: pathlib.Path, device: torch.device) -> "PreTrainedModel":
    """The network of a probe's folder on `device`, ready to predict."""
    transformers = require_transformers()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(device).eval()
