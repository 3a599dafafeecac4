"""`--on ray`: a shard is a task of a Ray cluster, tried again where its worker is killed.

Ray Core and not Ray Data: what is done, the folder says. A worker keeps the model from task to task.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

from tokcli.cli.workers import MOST_DEATHS
from tokcli.errors import TokError, UnreachableError
from tokcli.optional import require
from tokcli.progress import SILENT, Reporter, Task
from tokcli.shards.work import ShardWork, UnmadeShards, see_done


def run_on_ray(begin: str, flags: Mapping[str, Any], force: bool, reporter: Reporter, address: str = "") -> Any:
    """What a command gives whose work `begin` (`module:function`) begins, made by a cluster. Raises TokError."""
    ray = require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        work = resolve_name(begin)(**flags, force=force, reporter=reporter)
        ray.init(address=address or None, log_to_driver=False, logging_level="ERROR")
        gpus = 1 if ray.cluster_resources().get("GPU") and flags["device"] != "cpu" else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MOST_DEATHS)(do_shard)
        asked = json.dumps([os.getcwd(), begin, flags])

        def do(shards: Sequence[int], bar: Task) -> int:
            left = sorted(set(shards) - work.ledger.list_done())
            running, items = {task.remote(asked, shard): shard for shard in left}, 0
            unmade = UnmadeShards(work.ledger, reporter)
            while running:
                ready, _ = ray.wait(list(running))
                shard = running.pop(ready[0])
                try:
                    done = sum(ray.get(ready))
                except ray.exceptions.RayTaskError as error:
                    if not isinstance(error.cause, UnreachableError):
                        raise
                    unmade.add(shard, error.cause)
                    continue
                items += done
                bar.advance(done)
            unmade.require_made()
            return items

        return see_done(work, range(work.ledger.plan.shards), do)
    except ConnectionError as error:
        raise TokError(f"no Ray cluster answers at '{address}'; without --address one is started here") from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise TokError(f"Ray gave up ({error}); what is done stays, and the same command goes on") from error
    finally:
        ray.shutdown()


@functools.cache
def _join(asked: str) -> ShardWork[Any]:
    folder, begin, flags = json.loads(asked)
    os.chdir(folder)
    return resolve_name(begin)(**flags, force=False, reporter=SILENT)


def do_shard(asked: str, shard: int) -> int:
    """Do a shard in a worker of the cluster, unless it is done; how many items that were."""
    work = _join(asked)
    with SILENT.task(work.doing, None, "items") as bar:
        return sum(work.do(number, bar) for number in work.ledger.pull([shard], SILENT.note))
