"""A whole training step on a device that computes nothing: all of it lies there, and no step waits for a result."""

import contextlib
from typing import Any

import pytest
import torch
from meta_device import META, copy_knowledge, meta_device, require_there

from tokcli.backbones.lpips import build_untrained_lpips
from tokcli.data.batches import Batch
from tokcli.progress import SILENT
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import from_text
from tokcli.training.log import TrainingLog
from tokcli.training.loop import take_step
from tokcli.training.parts import prepare

ADVERSARY = "adversary={discriminator: {kind: patchgan, width: 8, layers: 2, norm: batch}, lecam_weight: 0.01}"


class Here:
    """An accelerator of one process, whose device is `meta`."""

    device = META
    num_processes = 1
    process_index = 0
    is_main_process = True

    def prepare_model(self, module: torch.nn.Module) -> torch.nn.Module:
        return module

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def no_sync(self, module: torch.nn.Module) -> Any:
        return contextlib.nullcontext()


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.accumulate=2", "training.clip_norm=1.0", "training.precision=bf16"],
        ["quantizer={kind: vq, dim: 3, codebook_size: 20, ema: true, restart_below: 1.0}", ADVERSARY],
        ["quantizer={kind: simvq, dim: 3, codebook_size: 20}", "losses=[{kind: l1}, {kind: lpips}]"],
        ["quantizer={kind: nsvq, dim: 3, codebook_size: 20}"],
        ["quantizer={kind: vaevq, dim: 3, codebook_size: 20}", "autoencoder.latent_dim=6", ADVERSARY],
        ["quantizer={kind: vpvae, dim: 3, codebook_size: 20}"],
        ["quantizer={kind: fsq, levels: [4, 4, 4]}", "training.channels_last=true"],
    ],
    ids=lambda overrides: overrides[0][:24],
)
def test_a_step_stays_on_its_device_and_never_waits(
    tiny: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokcli.losses.perceptual.load_lpips", build_untrained_lpips)
    recipe = from_text(tiny, "tiny.yaml", overrides)
    with meta_device():
        training = prepare(recipe, Here())  # pyright: ignore[reportArgumentType]
        example = build_tokenizer(recipe).quantizer.train()
        example(torch.randn(2, 9, example.input_dim))
        copy_knowledge(training.tokenizer.quantizer, example)
        log = TrainingLog(None, SILENT, 4)
        training.model.train()
        batches = iter(lambda: Batch(torch.empty(4, 3, 16, 16), []), None)
        for _ in range(3):
            take_step(training, batches, log)  # pyright: ignore[reportArgumentType]
            training.step += 1
        for name, module in training.state.modules.items():
            require_there({f"{name}.{key}": value for key, value in module.state_dict().items()})
