"""The commands `submit`, which gives a job to a cluster, and `status`, which shows how far a run is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from enformer_ray import api
from enformer_ray.cli.options import job_command
from enformer_ray.cli.printing import account_table, cut, duration
from enformer_ray.cli.terminal import Table, Text, console, print_line, write_foreign
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.engine.progress import WorkerStatus
    from enformer_ray.engine.status import RunStatus
    from enformer_ray.engine.submit import Submission

SHOWN = 20
"""Lines of a table of workers or failures; --json has them all."""

REST = 4.0
"""--watch waits at least this many times as long as reading the status takes, which is long for a large run on S3."""


def status(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document, for scripts")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on until the run is finished")] = False,
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="time between two looks of --watch")] = 5.0,
) -> None:
    """Show how far a run is, beside its driver or without one."""
    from enformer_ray.rundir.store import open_store

    show_status(open_store(run_directory).uri, as_json, every if watch else None)


def show_status(uri: str, as_json: bool, every: float | None) -> None:
    """Print how far the run in `uri` is; again every so many seconds until it is finished, or once if None."""
    if every is None:
        status = api.status(uri)
        _print(json.dumps(as_values(status), indent=1) if as_json else describe(status, uri))
    elif as_json:
        for status in _until_finished(uri, every):
            _print(json.dumps(as_values(status)))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for status in _until_finished(uri, every):
                live.update(describe(status, uri), refresh=True)
    else:
        for status in _until_finished(uri, every):
            _print(describe(status, uri) if status.finished else _in_one_line(status))


def as_values(status: RunStatus) -> dict[str, Any]:
    """A status as JSON values."""
    return asdict(status) | {"account": [line.model_dump() for line in status.account]}


def _until_finished(uri: str, every: float) -> Iterator[RunStatus]:
    while True:
        began = time.monotonic()
        status = api.status(uri)
        yield status
        if status.finished:
            return
        time.sleep(max(every, REST * (time.monotonic() - began)))


def _print(what: RenderableType) -> None:
    console.print(Text(what) if isinstance(what, str) else what)
    console.file.flush()


def describe(status: RunStatus, uri: str) -> RenderableType:
    """All of a status as tables and lines to print; `uri` is the run directory."""
    if not status.planned:
        return Group(*_texts(["nothing planned yet", *_driver_lines(status)]))
    lines = [_shards_line(status), _variants_line(status), *_rate_line(status), *_failed_attempts_line(status)]
    parts: list[RenderableType] = [account_table(status.account), *_texts(lines)]
    if status.workers:
        parts += ["", _worker_table(status.workers)]
    if status.failures:
        parts += ["", _failure_table(status)]
    return Group(*parts, *_texts(["", *_driver_lines(status), *_ending(status, uri)]))


def _texts(lines: list[str]) -> list[Text]:
    return [Text(line) for line in lines]


def _shards_line(status: RunStatus) -> str:
    halved = f" ({status.shards_halved:,} halved, as something in them failed)" if status.shards_halved else ""
    return (
        f"shards: {status.shards_done:,} of {status.shards_total:,} done, {status.shards_in_flight:,} in flight, "
        f"{status.shards_waiting:,} waiting{halved}"
    )


def _variants_line(status: RunStatus) -> str:
    reused = f", {status.variants_reused:,} besides from previous runs" if status.variants_reused else ""
    return (
        f"variants: {status.variants_scored:,} of {status.variants_total:,} scored, {status.variants_failed:,} failed, "
        f"{status.variants_left:,} left{reused}"
    )


def _rate_line(status: RunStatus) -> list[str]:
    if status.variants_per_second is None or status.seconds_left is None:
        return []
    return [f"rate: {status.variants_per_second:.3g} variants/s lately, {duration(status.seconds_left)} left"]


def _failed_attempts_line(status: RunStatus) -> list[str]:
    lines = []
    if status.attempts_failed:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in status.attempts_failed.items())
        lines.append(f"attempts that failed: {causes}")
    if status.smaller_batches:
        lines.append(f"short of memory: {status.smaller_batches:,} shards scored in smaller batches than planned")
    return lines


def _worker_table(workers: tuple[WorkerStatus, ...]) -> RenderableType:
    table = Table("worker", "state", "since", "shards", "variants", "busy")
    for column in table.columns[3:]:
        column.justify = "right"
    for name in ("host", "device", "node"):
        table.add_column(name)
    shown = _workers_to_show(workers)
    for worker in shown:
        state = " ".join(filter(None, (worker.state, worker.part)))
        table.add_row(
            worker.name,
            Text(f"{state}: {cut(worker.detail)}" if worker.detail else state),
            _ago(worker.since),
            f"{worker.parts:,}",
            f"{worker.variants:,}",
            "" if worker.busy is None else f"{worker.busy:.0%}",
            Text(f"{worker.host}:{worker.pid}" if worker.host else ""),
            Text(worker.device),
            worker.node[:8],
        )
    if len(shown) == len(workers):
        return table
    states: dict[str, int] = {}
    for worker in workers:
        states[worker.state] = states.get(worker.state, 0) + 1
    counts = ", ".join(f"{state} {count:,}" for state, count in states.items())
    return Group(table, Text(f"{len(workers):,} workers in all: {counts}"))


def _workers_to_show(workers: tuple[WorkerStatus, ...]) -> list[WorkerStatus]:
    """Workers that have not ended first, then those that ended last."""
    ended = [worker for worker in workers if worker.ended]
    ended.sort(key=lambda worker: worker.since, reverse=True)
    return ([worker for worker in workers if not worker.ended] + ended)[:SHOWN]


def _failure_table(status: RunStatus) -> RenderableType:
    table = Table("failed variant", "shard", "reason", "attempts", "detail")
    table.columns[3].justify = "right"
    for failure in status.failures[:SHOWN]:
        name, detail = Text(cut(failure.variant_id or "", 40)), Text(cut(failure.detail))
        table.add_row(name, failure.part, failure.reason, str(failure.attempts), detail)
    rest = len(status.failures) - SHOWN
    return Group(table, Text(f"and {rest:,} more: --json has them all")) if rest > 0 else table


def _driver_lines(status: RunStatus) -> list[str]:
    driver = status.driver
    if driver is None:
        return []
    seen = f", last sign of life {_ago(driver.last_seen)} ago" if driver.last_seen else ""
    who = f"driver: process {driver.pid} on {driver.host}, began {_ago(driver.began)} ago{seen}"
    if driver.state == "alive":
        return [f"{who}: {driver.doing}"]
    if driver.state == "released":
        return [f"{who}: ended in order"]
    return [f"{who}: seems to be dead; what it did is kept, and another one can go on from there"]


def _ending(status: RunStatus, uri: str) -> list[str]:
    if status.finished:
        return [f"finished (content hash {status.content_hash})"]
    if status.driver is not None and status.driver.state == "alive":
        return ["not finished"]
    ended = [f"the last run {status.run_ended}"] if status.run_ended.startswith("stopped") else []
    rest = f"`enformer-ray finalise {uri}` publishes it"
    if status.variants_left:
        rest = f"`enformer-ray run {uri}` scores what is left, then {rest}"
    return [*ended, f"not finished: {rest}"]


def _in_one_line(status: RunStatus) -> str:
    if not status.planned:
        return "nothing planned yet"
    driver = status.driver
    doing = "no driver" if driver is None else driver.doing or f"driver {driver.state}"
    parts = [_shards_line(status), _variants_line(status), *_rate_line(status), doing]
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {'; '.join(parts)}"


def _ago(at: str) -> str:
    return duration(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()))


_INTERRUPTED = 130


@job_command
def submit(
    job: JobConfig,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="show the log, and end with the exit status of the job")
    ] = False,
    working_dir: Annotated[
        Path | None, typer.Option(help="folder that goes along; relative paths of the job mean files in it")
    ] = None,
    ship_code: Annotated[
        bool, typer.Option("--ship-code", help="send this program along instead of using the cluster's own")
    ] = False,
    submission_id: Annotated[str | None, typer.Option(help="name of the job on the cluster (default: made up)")] = None,
    driver_cpus: Annotated[
        float | None, typer.Option(min=0, help="CPUs that the driver reserves; it then leaves a head without CPUs")
    ] = None,
    driver_resource: Annotated[
        list[str] | None, typer.Option(help="custom resource that the driver reserves, as `driver` or `driver=1`")
    ] = None,
) -> None:
    """Have a Ray cluster run `score`: --address http://HEAD:8265. The same command again resumes."""
    from enformer_ray.engine import submit as cluster

    submission = cluster.submit(
        job,
        working_dir=working_dir,
        ship_code=ship_code,
        submission_id=submission_id,
        driver=cluster.DriverResources(driver_cpus, dict(_resource(text) for text in driver_resource or [])),
    )
    print_submission(submission)
    if not follow:
        return
    try:
        status = cluster.follow(submission, write_foreign)
    except KeyboardInterrupt:
        print_line("")
        print_line(f"Stopped following; the job goes on. {_commands(submission)}")
        raise typer.Exit(_INTERRUPTED) from None
    print_line(f"The job {submission.submission_id} ended with exit status {status}.")
    raise typer.Exit(status)


def print_submission(submission: Submission) -> None:
    """Print the name of a submitted job and how to look after it."""
    print_line(f"Submitted {submission.submission_id} to {submission.address}; run directory {submission.output}")
    print_line(_commands(submission))
    sys.stdout.flush()


def _commands(submission: Submission) -> str:
    where = f"--address {submission.address}"
    return (
        f"Its log: ray job logs {where} --follow {submission.submission_id}; to stop it: ray job stop {where} "
        f"{submission.submission_id}; where it stands: enformer-ray status {submission.output}"
    )


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount or 1)
    except ValueError:
        raise ConfigError(f"--driver-resource {text}: give a name, or a name and a number as driver=1.") from None
