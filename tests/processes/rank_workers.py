"""What the processes of a test run. In a module of its own: a new process can import it by name."""

import torch
from safetensors.torch import save_file
from torch import distributed

from tokcli.quantizers.nsvq import NoiseSubstitution
from tokcli.quantizers.vpvae import VectorPerturbation
from tokcli.quantizers.vq import VectorQuantizer

STEPS = 4


def batch(rank: int, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(1, 64, 2, generator=generator) + 3 * rank


def averaging() -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(2, 8, ema=True, decay=0.5)


def renewing(ema: bool) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(2, 8, ema=ema, decay=0.2, restart_below=4.0, kmeans_start=True)


def average_and_renew(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    quantizers = {"averaging": averaging(), "ema": renewing(True), "parameter": renewing(False)}
    restarted = torch.zeros(())
    for step in range(STEPS):
        for quantizer in quantizers.values():
            torch.manual_seed(100 * step + rank)  # as the training loop does: ranks draw differently
            restarted = restarted + quantizer(batch(rank, step)).stats.get("restarted", 0)
    state = {f"{name}.{key}": tensor for name, q in quantizers.items() for key, tensor in q.state_dict().items()}
    state["restarted"] = restarted
    save_file(state, f"{folder}/{rank}.safetensors")
    distributed.destroy_process_group()


def share_queue(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = VectorPerturbation(2, 8, eta="calibrated", queue_fraction=0.2)
    for step in range(10):
        torch.manual_seed(100 * step + rank)
        quantizer(torch.randn(1, 100, 2) + 10 * rank)
    save_file(quantizer.state_dict(), f"{folder}/{rank}.safetensors")
    distributed.destroy_process_group()


def follow_live(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = NoiseSubstitution(2, 8, sizes=[8, 32])
    for step in range(10):
        torch.manual_seed(100 * step + rank)
        quantizer(torch.randn(4, 25, 2) + 10 * rank)
    save_file(quantizer.state_dict(), f"{folder}/{rank}.safetensors")
    distributed.destroy_process_group()
