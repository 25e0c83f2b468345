"""Score variants from Python: the commands of `enformer-ray` as functions, which return values and print nothing.

A job is a `JobConfig`, or the keys of a job file as keywords:

    finished = score(variants="my.vcf.gz", reference="GRCh38.fa", output="runs/my", scoring={"tracks": ["assay:CAGE"]})
    finished.scores().to_polars("sad")

Errors are those of `enformer_ray.errors`. Torch and Ray are imported when a function needs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from enformer_ray.config import JobConfig, build_config, refuse_credentials
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.analysis.saturation import ImportanceFiles
    from enformer_ray.dataset.dataset import ScoreDataset
    from enformer_ray.engine.progress import Progress, RunOutcome
    from enformer_ray.engine.status import RunStatus
    from enformer_ray.planning.plan import Plan
    from enformer_ray.planning.preview import Preview
    from enformer_ray.publish.audit import AuditReport
    from enformer_ray.publish.documents import FailedVariant
    from enformer_ray.publish.finalise import FinaliseProgress
    from enformer_ray.publish.verify import Verified, VerifyProgress
    from enformer_ray.rundir.lease import Lease
    from enformer_ray.rundir.manifest import AccountLine, Manifest
    from enformer_ray.rundir.store import RunStore
    from enformer_ray.schedule import BegunRelease, FoundReleases, ReleaseResult, ScheduledJob

    Step: TypeAlias = (
        Plan | Progress | RunOutcome | FinaliseProgress | "FinishedRun" | "Saturation"
        | FoundReleases | BegunRelease | ReleaseResult[Any]
    )  # fmt: skip
    OnStep: TypeAlias = Callable[[Step], None]

Kind = Literal["score", "reprocess", "genes", "saturate"]
"""What a job is checked to be: each kind refuses jobs that lack what it is about."""

_ORIGIN = "the job"
"""What errors call a job whose keys are keywords: it has no file to name."""

# Nothing about its use leaves the machine: Ray's and the Hub's own reporting included. Both read this when imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True)
class FinishedRun:
    """A published dataset.

    Attributes:
        uri: run directory, as it was given.
        manifest: files, rows and content hashes of the dataset.
        audit: how far the scores differ from two direct passes of the network.
        failures: the first variants that could not be scored; `failed` counts all.
    """

    uri: str
    manifest: Manifest
    audit: AuditReport
    failures: tuple[FailedVariant, ...]

    @property
    def content_hash(self) -> str:
        """Hex sha256 over the scores of all statistics: equal for equal scores, however they were computed."""
        return self.manifest.content_hash

    @property
    def account(self) -> tuple[AccountLine, ...]:
        """Input alleles by final status and reason."""
        return self.manifest.account

    @property
    def failed(self) -> int:
        """Rows without a score, as their variant could not be scored."""
        return self.manifest.failed

    def scores(self) -> ScoreDataset:
        """The dataset, to select from and read."""
        from enformer_ray.dataset.dataset import open_scores

        return open_scores(self.uri)

    def __str__(self) -> str:
        rows = f"{self.manifest.rows:,} rows, {self.failed:,} failed"
        return f"{self.uri}/scores: {', '.join(self.manifest.statistics)}; {rows}; content hash {self.content_hash}"


@dataclass(frozen=True)
class Saturation:
    """A finished run of saturated regions.

    Attributes:
        run: the run.
        importance: files with what each base contributes, in the run directory.
        logos: pictures that were drawn, one for each track.
    """

    run: FinishedRun
    importance: ImportanceFiles
    logos: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Releases:
    """One look at a folder of releases.

    Attributes:
        found: every release and its state, before anything was scored.
        results: of those that were ready to be scored, in order; the outcome of each is a `FinishedRun`, or a
            `Preview` if `dry_run` was given.
    """

    found: FoundReleases
    results: tuple[ReleaseResult[FinishedRun | Preview], ...]


def score(
    job: JobConfig | None = None, /, *, take_over: bool = False, on_progress: OnStep | None = None, **options: Any
) -> FinishedRun:
    """Plan, run and finalise a job, or what is left of it; returns a finished run as it is.

    Args:
        job: the job; or its keys as keywords, such as `variants`, `reference`, `output` and `scoring`.
        take_over: claim the run directory even from a driver that seems to be alive.
        on_progress: called with each step as it is done: `Plan`, `Progress` (many), `RunOutcome`, `FinaliseProgress`
            (many), `FinishedRun`.
        **options: keys of the job, where `job` is not given.

    Raises:
        ConfigError: naming each key that is unknown, missing or wrong.
        MismatchError: the run directory holds the plan of another job.
        LeaseHeldError: another driver is at work in it.
        EnformerRayError: another error of `enformer_ray.errors`: of the input, the weights, the cluster, the audit.
    """
    return _score(_checked(job, options), take_over, on_progress or _ignore)


def reprocess(
    job: JobConfig | None = None, /, *, take_over: bool = False, on_progress: OnStep | None = None, **options: Any
) -> FinishedRun:
    """Score only what no run in `previous` has scored in the same way; the rest is copied. See `score`.

    Raises:
        ConfigError: `previous` names no run.
        PreviousRunError: a run that it names is missing, not finished, or changed.
    """
    return _score(_checked(job, options, "reprocess"), take_over, on_progress or _ignore)


def score_genes(
    job: JobConfig | None = None, /, *, take_over: bool = False, on_progress: OnStep | None = None, **options: Any
) -> FinishedRun:
    """Score variants at the transcription starts around them: `genes={"gtf": ...}`. See `score`.

    Raises:
        ConfigError: the job has no section `genes`.
    """
    return _score(_checked(job, options, "genes"), take_over, on_progress or _ignore)


def saturate(
    job: JobConfig | None = None,
    /,
    *,
    regions: Sequence[str | Path] = (),
    logo: str | Path | None = None,
    take_over: bool = False,
    on_progress: OnStep | None = None,
    **options: Any,
) -> Saturation:
    """Score every substitution of every base of regions, and write what each base contributes. See `score`.

    Args:
        job: the job, whose variants are all `saturate:REGION`.
        regions: chr8:1000-1200 (1-based, both ends included) or BED files, in the place of `variants`.
        logo: picture (.png, .svg, .pdf) to draw of each track.
        take_over: as in `score`.
        on_progress: as in `score`; also called with the `Saturation` before logos are drawn.
        **options: keys of the job, where `job` is not given.

    Raises:
        ConfigError: the job names variant files, or the picture has no known ending.
        SelectionError: a region is not inside the reference.
    """
    from enformer_ray.analysis.saturation import check_logo, draw_logos, write_importance
    from enformer_ray.catalogue.sources import SATURATE
    from enformer_ray.rundir.store import open_store

    if regions:
        options["variants"] = [f"{SATURATE}{region}" for region in regions]
    checked, report = _checked(job, options, "saturate"), on_progress or _ignore
    if logo is not None:
        check_logo(Path(logo))
    run = _score(checked, take_over, report)
    found = Saturation(run, write_importance(run.scores(), open_store(run.uri)))
    report(found)
    return found if logo is None else replace(found, logos=tuple(draw_logos(run.scores(), Path(logo))))


def preview(job: JobConfig | None = None, /, *, kind: Kind = "score", **options: Any) -> Preview:
    """What a job would plan and cost; writes nothing to its output.

    Args:
        job: the job; or its keys as keywords.
        kind: refuse the job as the function of that name would.
        **options: keys of the job, where `job` is not given.

    Raises:
        EnformerRayError: as `plan`.
    """
    from enformer_ray.planning.preview import preview as count

    return count(_checked(job, options, kind))


def plan(job: JobConfig | None = None, /, *, take_over: bool = False, **options: Any) -> Plan:
    """Read, normalise and shard the variants of a job and write the plan; or accept the same plan if it is there.

    Raises:
        EnformerRayError: as `score`.
    """
    return _plan(_checked(job, options), take_over)


def run(
    run_directory: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    token_cache_mb: int | None = None,
    take_over: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunOutcome:
    """Score the shards of a plan that have no receipt yet.

    Args:
        run_directory: of the plan.
        workers: worker processes at most; as planned when None.
        address: Ray cluster to join; a local one is started when None.
        token_cache_mb: memory of a worker for trunk tokens, MiB; as planned when None.
        take_over: as in `score`.
        on_progress: called at the start and whenever a shard is done.

    Raises:
        RunIncompleteError: there is no plan.
        EnformerRayError: as `score`.
    """
    from enformer_ray.engine.driver import run_shards

    with _held(run_directory, take_over) as (store, lease):
        return run_shards(store, address, workers, token_cache_mb, on_progress or _ignore, lease)


def finalise(
    run_directory: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    take_over: bool = False,
    on_progress: Callable[[FinaliseProgress], None] | None = None,
) -> FinishedRun:
    """Check that every planned variant is there once, and publish the dataset; or return the published one.

    Args:
        run_directory: of a run whose shards all have receipts.
        workers: files that are built at a time; one for each CPU when None.
        address: Ray cluster to join; a local one is started, where there is much to do, when None.
        take_over: as in `score`.
        on_progress: called whenever a file of scores is built.

    Raises:
        RunIncompleteError: there is no plan, or shards have no receipt.
        AuditError: direct passes do not confirm the scores.
        DatasetCorruptError: files do not agree with their receipts.
    """
    with _held(run_directory, take_over) as (store, lease):
        return _publish(str(run_directory), store, lease, workers, address, on_progress or _ignore)


def verify(run_directory: str | Path, *, on_progress: Callable[[VerifyProgress], None] | None = None) -> Verified:
    """Check every file and score of a finished dataset again.

    Raises:
        RunIncompleteError: the run is not finished.
        DatasetCorruptError: a file is not the one that was published; the message names it.
    """
    from enformer_ray.publish.verify import verify as check
    from enformer_ray.rundir.store import open_store

    return check(open_store(str(run_directory)), on_progress or _ignore)


def status(run_directory: str | Path) -> RunStatus:
    """How far a run is, read from its files: next to a driver that is at work, or without one."""
    from enformer_ray.engine.status import run_status
    from enformer_ray.rundir.store import open_store

    return run_status(open_store(str(run_directory)))


def releases(
    job: ScheduledJob | None = None,
    /,
    *,
    dry_run: bool = False,
    take_over: bool = False,
    on_progress: OnStep | None = None,
    **options: Any,
) -> Releases:
    """Score the releases of a folder that have no finished run yet, one after the other.

    Each is scored like `reprocess`, with all finished runs of the folder of runs as previous ones. An error of one
    release is part of its result and does not keep the others from being scored.

    Args:
        job: the job; or its keys as keywords.
        dry_run: preview the releases, score nothing.
        take_over: claim the folder of runs even from a driver that seems to be alive.
        on_progress: called with `FoundReleases`; then for each release `BegunRelease`, what `score` reports, and
            `ReleaseResult`.
        **options: `schedule={"releases": DIR, "runs": DIR}` and keys of a job except `variants` and `output`.

    Raises:
        ConfigError: a key is unknown, missing or wrong.
        InputFileError: there is no such folder, or two releases have the same name.
        LeaseHeldError: another driver is at work in the folder of runs.
    """
    from enformer_ray.schedule import find, preview_ready, scheduled_job, score_ready

    if job is None:
        job = scheduled_job(_keys(options), _ORIGIN)
    elif options:
        raise _both_given(options)
    report = on_progress or _ignore
    found = find(job.schedule)
    report(found)
    results: Iterator[ReleaseResult[FinishedRun | Preview]]
    if dry_run:
        results = preview_ready(job, found, preview, report)
    else:
        results = score_ready(job, found, lambda one: _score(one, take_over, report), take_over, report)
    return Releases(found, tuple(results))


def _ignore(_: object) -> None:
    """Report to nobody."""


def _checked(job: JobConfig | None, options: Mapping[str, Any], kind: Kind = "score") -> JobConfig:
    if job is None:
        job = build_config(_keys(options), _ORIGIN)
    elif options:
        raise _both_given(options)
    else:
        refuse_credentials(job.model_dump(mode="json"), _ORIGIN)
    _check_kind(job, kind)
    return job


def _both_given(options: Mapping[str, Any]) -> ConfigError:
    return ConfigError(
        f"a job and keys of one ({', '.join(options)}) were given: give one of them, or change the job first, as by "
        "job.model_copy(update={...})."
    )


def _keys(value: Any) -> Any:
    """Paths as text, at any depth: a job file has no other."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _keys(inner) for key, inner in value.items()}
    return [_keys(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_kind(job: JobConfig, kind: Kind) -> None:
    """Refuse a job that lacks what its kind is about; in the words of the command line, which has the same checks."""
    from enformer_ray.catalogue.sources import SATURATE, is_saturation

    if kind == "reprocess" and not job.previous:
        raise ConfigError(
            "reprocess needs at least one finished run to take scores from: give --previous RUN (previous in a job "
            "file), or use `enformer-ray score` to score everything."
        )
    if kind == "genes" and job.genes is None:
        raise ConfigError(
            "the job file has no section `genes`, whose key `gtf` names the annotation; add it or give --gtf."
        )
    if kind == "saturate" and not all(map(is_saturation, job.variants)):
        raise ConfigError(
            "`saturate` makes its own variants, but the job file names variant files; `score` scores those. Give "
            f"--region or --bed, or variants like {SATURATE}chr8:1000-1200 in the job file."
        )


def _score(job: JobConfig, take_over: bool, report: OnStep) -> FinishedRun:
    from enformer_ray.engine.driver import run_shards

    report(_plan(job, take_over))
    # One lease for both, so that no other driver comes between the last shard and publishing.
    with _held(job.output, take_over) as (store, lease):
        report(run_shards(store, job.address, job.workers, job.token_cache_mb, report, lease))
        finished = _publish(job.output, store, lease, job.workers, job.address, report)
        report(finished)
    return finished


def _plan(job: JobConfig, take_over: bool) -> Plan:
    from enformer_ray.planning.plan import make_plan
    from enformer_ray.rundir.store import open_store

    return make_plan(job, open_store(job.output), take_over)


@contextmanager
def _held(run_directory: str | Path, take_over: bool) -> Iterator[tuple[RunStore, Lease]]:
    from enformer_ray.planning.plan import load_plan
    from enformer_ray.rundir.lease import hold
    from enformer_ray.rundir.store import open_store

    store = open_store(str(run_directory))
    load_plan(store)  # refuses a folder without a plan before a lease is written into it
    with hold(store, take_over) as lease:
        yield store, lease


def _publish(
    uri: str,
    store: RunStore,
    lease: Lease,
    workers: int | None,
    address: str | None,
    on_progress: Callable[[FinaliseProgress], None],
) -> FinishedRun:
    from enformer_ray.publish.audit import read_audit
    from enformer_ray.publish.documents import read_failures
    from enformer_ray.publish.finalise import finalise as publish

    manifest = publish(store, address, workers, lease, on_progress)
    return FinishedRun(uri, manifest, read_audit(store), tuple(read_failures(store)) if manifest.failed else ())
