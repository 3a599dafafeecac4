"""`tok encode ... --on ray`: a shard is a task of a Ray cluster, tried again where its worker is killed.

Ray Core and not Ray Data: what is done, the folder says. A worker keeps the model from task to task.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tokcli.cli.workers import MOST_DEATHS
from tokcli.commands.encode import begin_encoding
from tokcli.commands.encode_shards import see_done
from tokcli.commands.shard_encoder import ShardEncoder
from tokcli.errors import TokError
from tokcli.optional import require
from tokcli.progress import SILENT, Reporter, Task
from tokcli.shards.ledger import Ledger


def encode_on_ray(flags: Mapping[str, Any], force: bool, reporter: Reporter, address: str | None = None) -> Any:
    """What `encode` with these flags gives, made by the cluster at `address`, or one started here. Raises TokError."""
    ray = require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        work, ledger = begin_encoding(**flags, force=force, reporter=reporter)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        gpus = 1 if ray.cluster_resources().get("GPU") and flags["device"] != "cpu" else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MOST_DEATHS)(encode_shard)
        asked = json.dumps([os.getcwd(), flags])

        def encode(shards: Sequence[int], bar: Task) -> int:
            left = sorted(set(shards) - ledger.list_done())
            running, items = [task.remote(asked, shard) for shard in left], 0
            while running:
                ready, running = ray.wait(running)
                items += sum(ray.get(ready))
                bar.advance(sum(ray.get(ready)))
            return items

        return see_done(work, ledger, range(ledger.plan.shards), encode)
    except ConnectionError as error:
        raise TokError(f"no Ray cluster answers at '{address}'; without --address one is started here") from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise TokError(f"Ray gave up ({error}); what is done stays, and the same command goes on") from error
    finally:
        ray.shutdown()


@functools.cache
def _join(asked: str) -> tuple[ShardEncoder, Ledger]:
    os.chdir(json.loads(asked)[0])
    work, ledger = begin_encoding(**json.loads(asked)[1], force=False, reporter=SILENT)
    return ShardEncoder(work, ledger), ledger


def encode_shard(asked: str, shard: int) -> int:
    """Encode a shard in a worker of the cluster, unless it is done; how many items that were."""
    encoder, ledger = _join(asked)
    with SILENT.task("encoding", None, "items") as bar:
        return sum(encoder.encode(number, bar) for number in ledger.pull([shard], SILENT.note))
