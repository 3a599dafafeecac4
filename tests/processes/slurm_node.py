"""A real Slurm of one node, this machine, for tests: Debian's packages slurmctld, slurmd, slurm-client and munge.

    with slurm(folder) as environment:
        subprocess.run(["sbatch", ...], env=environment)

Needs root, as the daemons do. Everything lies in the folder; the daemons end with the context.
"""

import contextlib
import os
import pathlib
import platform
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")

SETTINGS = """\
ClusterName=test
SlurmctldHost={host}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=300
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP MaxTime=INFINITE
"""


def find_missing() -> list[str]:
    """The programs that are not installed, and `root` where this is not root."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return missing + ([] if os.geteuid() == 0 else ["root"])


@contextlib.contextmanager
def slurm(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands speak to a Slurm that lasts as long as the context."""
    folder = folder.resolve()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    ports = [_find_port(), _find_port()]
    settings = SETTINGS.format(
        host=platform.node(), folder=folder, controller=ports[0], node=ports[1], cores=os.cpu_count()
    )
    (folder / "slurm.conf").write_text(settings)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    path = f"{os.environ['PATH']}:/usr/sbin"
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munge += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    daemons = []
    try:
        for command in (munge, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", platform.node()]):
            daemons.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(1)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()


def _wait_until_idle(environment: dict[str, str], folder: pathlib.Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        told = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False)
        if told.stdout.strip() in ("idle", "mix", "alloc"):
            return
        time.sleep(0.5)
    logs = [(folder / name).read_text()[-2000:] for name in ("slurmctld.log", "slurmd.log") if (folder / name).exists()]
    raise AssertionError("\n".join(["Slurm does not start", told.stdout, told.stderr, *logs]))


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
