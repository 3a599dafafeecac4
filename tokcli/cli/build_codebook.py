"""`tok build-codebook`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tokcli.cli.console import print_json, print_table
from tokcli.cli.elsewhere import (
    Address,
    DryRun,
    Elsewhere,
    Finish,
    Jobs,
    On,
    Shard,
    ShardItems,
    Status,
    Time,
    find_launcher,
    print_progress,
    refuse_without,
)
from tokcli.cli.launch import launched
from tokcli.cli.options import Device, Force, Model, OneModel, Processes, choose_model, numbers
from tokcli.cli.verb import Run, verb

if TYPE_CHECKING:
    from tokcli.commands.build_codebook import BuiltCodebooks
    from tokcli.shards.work import Progress

SIZES = numbers("numbers of codes separated by commas, such as 256,1024", least=2)


@verb("tok build-codebook runs/image-small-vpvae --size 256,1024,4096")
def build_codebook(
    model: OneModel = None,
    named: Model = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="K[,K...]",
            callback=SIZES,
            help="Codes; several sizes in one pass. [default: the recipe's]",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="What to encode. [default: the training data]")
    ] = None,
    evenness: Annotated[
        float,
        typer.Option(
            metavar="E", help="0: least error; up to 1: every code as often; down to -3: fewer bits of entropy."
        ),
    ] = 0.0,
    samples: Annotated[int, typer.Option(help="Latents to build from.", min=1)] = 200_000,
    passes: Annotated[int, typer.Option(help="Over the data, each with other random crops.", min=1)] = 1,
    codebook: Annotated[
        int | None, typer.Option(metavar="K", help="Used where nobody names one. [default: trained for, else largest]")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Leave the model alone and write another artifact. [default: into it]",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Of weights in FILE: float32, float16, bfloat16. [default: as now]"),
    ] = None,
    record: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="What FILE says of itself instead: licence, credits, name, data.train.path."
        ),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Make the sample in this folder, with any number of workers, and build from that."
        ),
    ] = None,
    processes: Processes = "1",
    shard: Shard = None,
    shard_items: ShardItems = None,
    on: On = None,
    address: Address = None,
    jobs: Jobs = 8,
    time: Time = None,
    dry_run: DryRun = False,
    status: Status = False,
    finish: Finish = False,
    force: Force = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything random.")] = 0,
    device: Device = "auto",
) -> Run:
    """Build codebooks of any size for a trained tokenizer."""
    chosen, count = choose_model(model, named), int(processes)
    flags = {"model": chosen, "shards": shards, "sizes": sizes, "data": data, "samples": samples, "passes": passes}
    flags |= {
        "evenness": evenness,
        "seed": seed,
        "codebook": codebook,
        "output": output,
        "storage": storage,
        "record": record,
    }
    launcher = find_launcher(
        Elsewhere(on, address, time, dry_run),
        shards,
        "tokcli.commands.codebook_shards:begin_building",
        _show,
        flags | {"shard_items": shard_items, "device": device},
        verb="build-codebook --shards",
        shared=shard is not None or count > 1,
        force=force,
    )
    if launcher is not None:
        return launcher
    if shards is None:
        refuse_without("--shards", shard=shard, shard_items=shard_items, status=status, finish=finish)
        return Run("tokcli.commands.build_codebook:build_codebook", _show, {"model": chosen})
    if status:
        return Run("tokcli.commands.codebook_shards:read_building", _show, workers=1)
    workers = 1 if finish or launched() else count
    changes = {"model": chosen, "shards": shards}
    return Run("tokcli.commands.codebook_shards:build_in_folder", _show, changes, workers)


def _show(result: "BuiltCodebooks | Progress", json: bool) -> int:
    from tokcli.shards.work import Progress

    if isinstance(result, Progress):
        print_progress(result, json)
    elif json:
        print_json(result.to_json())
    else:
        rows = [(report.size, report.mse, report.perplexity, report.samples) for report in result.reports]
        print_table(str(result.artifact), ["codebook", "mse", "perplexity", "latents"], rows)
        model = result.artifact.parent if result.artifact.name == "tokenizer.safetensors" else result.artifact
        print(f"next: tok eval {model}     or tok encode FOLDER -o tokens.npy -m {model}")
    return 0
