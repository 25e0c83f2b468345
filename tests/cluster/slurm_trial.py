"""The Slurm script for real: a one-machine Slurm, a job that is requeued half-way twice, and what is left of it.

`make slurm-trial` runs it. Slurm's and munge's programs must be there (Debian: slurm-wlm, munge); nothing of a Slurm
that the machine may have is touched: keys, sockets, state and ports are the trial's own, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import yaml

from tests.cluster.conftest import BIN, free_port
from tests.small_world import World, make_world

SCRIPT = Path(__file__).resolve().parents[2] / "cluster/slurm/score_variants.sbatch"
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
VARIANTS = 160
SHARD_SIZE = 2
PATIENCE = 300.0  # seconds

CONFIGURATION = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
{nodes}
PartitionName=trial Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running Slurm of this machine.

    Args:
        environment: what its commands need.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *words: str | Path) -> str:
        """Output of one of its commands."""
        line = [str(word) for word in words]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(line)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """State of a job, such as RUNNING."""
        words = dict(word.partition("=")[::2] for word in self("scontrol", "show", "job", job).split())
        return words["JobState"]


@contextmanager
def slurm(folder: Path, nodes: int) -> Iterator[Slurm]:
    """Start munge and Slurm on this machine; they end with the context.

    Args:
        folder: for all their files.
        nodes: nodes that this machine plays, of two CPUs each.
    """
    controller, ports = free_port(), [free_port() for _ in range(nodes)]
    host = os.uname().nodename
    names = [f"trial{i}" for i in range(nodes)] if nodes > 1 else [host]
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN"
        for name, port in zip(names, ports, strict=True)
    ]
    text = CONFIGURATION.format(folder=folder, host=host, controller=controller, nodes="\n".join(lines))
    (folder / "slurm.conf").write_text(text)
    for name in ("state", *(f"spool.{name}" for name in names)):
        (folder / name).mkdir()
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(SCRIPT.parents[2])}
    run = Slurm(environment)
    run("mungekey", "--create", "--keyfile", folder / "munge.key")
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    daemons = [munge, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for line in daemons:
            started.append(
                subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            if line is munge:
                await_((folder / "munge.socket").exists, "munge's socket")
        await_(lambda: run("sinfo", "-h", "-o", "%t").split() == ["idle"], "idle nodes")
        yield run
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def await_(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, or end the trial."""
    last = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > last:
            sys.exit(f"FAILED: no {what} within {PATIENCE:.0f} s")
        time.sleep(0.2)


def many_variants(world: World, path: Path) -> Path:
    """A VCF of SNVs all along the world's first chromosome."""
    bases = "".join(line for line in world.reference.read_text().split(">")[1].split("\n")[1:])
    starts = np.linspace(30_000, len(bases) - 30_000, VARIANTS).astype(int)
    lines = [f"chr1\t{s + 1}\tsnv{s}\t{bases[s]}\t{'C' if bases[s] != 'C' else 'G'}\t.\t.\t.\n" for s in starts]
    path.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(lines))
    return path


def job_file(world: World, folder: Path, name: str) -> Path:
    """A job of many small shards."""
    job = {
        "variants": str(many_variants(world, folder / "variants.vcf")),
        "reference": str(world.reference),
        "weights": str(world.weights),
        "output": str(folder / name),
        "scoring": {"statistics": ["sad"], "threads": 1, "device": "cpu", "reverse_complement": True},
        "shard_size": SHARD_SIZE,
        "workers": 2,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def receipts(run: Path) -> dict[str, bytes]:
    """Receipts of a run by name."""
    return {path.name: path.read_bytes() for path in (run / "receipts").glob("*.json")}


def submit(run: Slurm, job: Path, nodes: int) -> str:
    """Number of a submitted job."""
    options = ["--parsable", f"--nodes={nodes}", "--cpus-per-task=2", "--time=30"]
    return run("sbatch", *options, f"--output={job.with_suffix('.log')}", SCRIPT, job)


def interrupt(run: Slurm, job: str, folder: Path, least: int, *command: str) -> dict[str, bytes]:
    """Stop a job by a command of Slurm once it has some receipts; returns those it leaves."""
    await_(lambda: run.state(job) == "RUNNING" and len(receipts(folder)) >= least, f"{least} receipts")
    run(*command)
    await_(lambda: run.state(job) != "RUNNING", "end of the interrupted start")
    await_(lambda: not run("squeue", "-h", "-j", job, "-t", "COMPLETING"), "end of the interrupted start")
    left = receipts(folder)
    print(f"{' '.join(command)}: {run.state(job)} with {len(left)} of {VARIANTS // SHARD_SIZE} receipts")
    if not least <= len(left) < VARIANTS // SHARD_SIZE:
        sys.exit("FAILED: the interruption did not come half-way")
    return left


def check_dataset(folder: Path) -> None:
    """The dataset holds every planned variant once."""
    planned = duckdb.sql(f"SELECT variant_id FROM '{folder}/plan/variants/*.parquet' ORDER BY 1").fetchall()
    scored = duckdb.sql(f"SELECT variant_id FROM '{folder}/scores/sad/*.parquet' ORDER BY 1").fetchall()
    if not (folder / "manifest.json").is_file() or len(planned) != VARIANTS or planned != scored:
        sys.exit(f"FAILED: {len(planned)} variants planned, {len(scored)} scored")
    print(f"dataset finished: {len(scored)} of {VARIANTS} planned variants, each once")


def check_kept(before: dict[str, bytes], folder: Path, when: str) -> None:
    """Receipts from before an interruption are there, byte for byte."""
    after = receipts(folder)
    if any(after.get(name) != content for name, content in before.items()):
        sys.exit(f"FAILED: receipts of before the {when} were scored again")
    print(f"{len(before)} receipts of before the {when} kept, {len(after)} in the end")


def requeued_twice(run: Slurm, job: Path, nodes: int) -> None:
    """Requeue a running job, then signal it as before its time limit, and let it end."""
    folder = job.with_suffix("")
    shards = VARIANTS // SHARD_SIZE
    number = submit(run, job, nodes)
    print(f"submitted job {number} on {nodes} node(s)")
    first = interrupt(run, number, folder, shards // 5, "scontrol", "requeue", number)
    middle = len(first) + shards // 5
    second = interrupt(run, number, folder, middle, "scancel", "--batch", "--signal=TERM", number)
    await_(lambda: run.state(number) not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED"), "end of the job")
    if run.state(number) != "COMPLETED":
        sys.exit(f"FAILED: the job is {run.state(number)}")
    print(f"job {number}: COMPLETED")
    check_dataset(folder)
    check_kept(first, folder, "requeue")
    check_kept(second, folder, "signal of the time limit")


def cancelled(run: Slurm, job: Path, nodes: int) -> None:
    """A job that its user cancels is not requeued."""
    number = submit(run, job, nodes)
    interrupt(run, number, job.with_suffix(""), 1, "scancel", number)
    time.sleep(3)
    if run.state(number) != "CANCELLED":
        sys.exit(f"FAILED: the cancelled job is {run.state(number)}")
    print(f"job {number}: CANCELLED, and not requeued")


def main() -> None:
    """Run the trial; a line for each step, and an exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="nodes that this machine plays")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the trial")
    options = parser.parse_args()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"not here: {', '.join(missing)} (Debian: apt-get install slurm-wlm munge, as root)")
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    try:
        world = make_world(folder / "world")
        tokens = folder / "tokens"
        os.environ["ENFORMER_RAY_TOKENS"] = str(tokens)
        os.environ["ENFORMER_RAY_TMP"] = str(folder)
        with slurm(folder, options.nodes) as run:
            requeued_twice(run, job_file(world, folder, "requeued"), options.nodes)
            cancelled(run, job_file(world, folder, "cancelled"), options.nodes)
        if any(tokens.iterdir()):
            sys.exit("FAILED: a token was left behind")
        if left := list(folder.glob("ray-*")):
            sys.exit(f"FAILED: folders of Ray were left behind: {left}")
        print("PASSED")
    finally:
        if options.keep:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
