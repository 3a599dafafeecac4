"""Which trained tokenizer a command means, and opening it."""

from tokcli.models.finding import RUNS, find_model, find_models, name_model, shorten_labels
from tokcli.models.opening import (
    WEIGHTS,
    Model,
    choose_named,
    open_maker,
    open_model,
    pick_batch_size,
    pick_device,
    pick_own_device,
    require_maker,
)

__all__ = [
    "RUNS",
    "WEIGHTS",
    "Model",
    "choose_named",
    "find_model",
    "find_models",
    "name_model",
    "open_maker",
    "open_model",
    "pick_batch_size",
    "pick_device",
    "pick_own_device",
    "require_maker",
    "shorten_labels",
]
