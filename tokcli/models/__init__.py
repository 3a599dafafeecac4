"""Which trained tokenizer a command means, and opening it."""

from tokcli.models.compiling import compile_and_compare, compile_model
from tokcli.models.finding import (
    RUNS,
    find_label,
    find_model,
    find_models,
    name_model,
    require_trained,
    shorten_labels,
)
from tokcli.models.model import WEIGHTS, Model, PublishedModel, TrainedModel
from tokcli.models.opening import (
    choose_named,
    digest_model,
    list_codebooks,
    open_maker,
    open_model,
    open_trained,
    pick_batch_size,
    pick_device,
    pick_own_device,
    read_settings,
    require_maker,
)

__all__ = [
    "RUNS",
    "WEIGHTS",
    "Model",
    "PublishedModel",
    "TrainedModel",
    "choose_named",
    "compile_and_compare",
    "compile_model",
    "digest_model",
    "find_label",
    "find_model",
    "find_models",
    "list_codebooks",
    "name_model",
    "open_maker",
    "open_model",
    "open_trained",
    "pick_batch_size",
    "pick_device",
    "pick_own_device",
    "read_settings",
    "require_maker",
    "require_trained",
    "shorten_labels",
]
