"""The calibration of a run: a matched background is drawn, scored as the run was, and its table put into the run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enformer_ray.analysis.background import draw_background
from enformer_ray.analysis.calibration import POINTS, calibrate, reference_digests
from enformer_ray.config import CatalogueConfig, JobConfig
from enformer_ray.dataset.calibration import CalibrationTable, own_calibration
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.dataset.selection import tracks_of
from enformer_ray.engine.worker import open_planned_reference
from enformer_ray.errors import ConfigError, OutputExistsError
from enformer_ray.planning.plan import load_plan
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, open_store

AUTO = "auto"
"""Stands for a background that is made for the run, where a finished run may be named."""

BACKGROUND_VARIANTS = 10_000

_VCF, _RUN = f"{layout.CALIBRATION_FOLDER}/background.vcf", f"{layout.CALIBRATION_FOLDER}/run"
_KEYS = ("chromosome", "position", "reference_allele", "alternate_allele")
_NOTE = "enformer_ray_background="


@dataclass(frozen=True)
class CalibratedRun:
    """A run with its table.

    Attributes:
        uri: run directory.
        table: path or URI of the table.
        background: run directory of the background.
        variants: scored variants of the background.
        made: False where the run had this table already.
    """

    uri: str
    table: str
    background: str
    variants: int
    made: bool


def calibrate_run(
    run_directory: str,
    score: Callable[[JobConfig], object],
    background: str = AUTO,
    count: int = BACKGROUND_VARIANTS,
    seed: int = 1,
    force: bool = False,
    workers: int | None = None,
    address: str | None = None,
) -> CalibratedRun:
    """Calibrate a finished run: afterwards all that reads the run can give signed quantiles and z of its scores.

    With `AUTO`, random SNVs that are matched to the run's (`draw_background`) are scored with its weights, reference
    and options in `calibration/run` of its directory; a call that was interrupted is resumed by the same call.

    Args:
        run_directory: path or URI of the run.
        score: scores a job, or what is left of it: `enformer_ray.score`.
        background: `AUTO`, or a finished run that was scored as the run was, such as one of common variants.
        count: SNVs to draw.
        seed: of the draw.
        force: replace the run's table, and the background that was made for it if that differs.
        workers: worker processes at most; as the run's job says when None.
        address: Ray cluster to join; as the run's job says when None.

    Raises:
        RunIncompleteError: a run is not finished.
        ConfigError: the run has scores of genes.
        InputFileError: the run has no SNVs, or too few variants of the background have scores.
        OutputExistsError: the run has another table already.
        MismatchError: the background was scored in another way.
    """
    run = FinishedRun(open_store(run_directory))
    run.manifest.refuse_genes(run.store.uri)
    request = {"variants": count, "seed": seed} if background == AUTO else {"run": open_store(background).uri}
    if not force and (table := _present(run, request)) is not None:
        return _calibrated(run, table, made=False)
    if background == AUTO:
        background = _score_background(run, score, count, seed, force, workers, address)
    elif request["run"] == run.store.uri:
        raise ConfigError(f"--background {background} is the run itself; name another finished run, or {AUTO}.")
    return _calibrated(run, _put_table(run, background, request), made=True)


def _present(run: FinishedRun, request: dict[str, Any]) -> CalibrationTable | None:
    """The run's table, if it has one of the requested background."""
    table = own_calibration(run)
    if table is not None and table.origin["background"] != request:
        was = ", ".join(f"{name} {value}" for name, value in table.origin["background"].items())
        raise OutputExistsError(
            f"{run.store.uri} is calibrated by another background already ({was}); --force puts the new one in its "
            "place."
        )
    return table


def _calibrated(run: FinishedRun, table: CalibrationTable, made: bool) -> CalibratedRun:
    uri = run.store.uri
    background = table.origin["background"].get("run", f"{uri}/{_RUN}")
    return CalibratedRun(uri, f"{uri}/{layout.CALIBRATION}", background, table.origin["variants"], made)


def _score_background(
    run: FinishedRun,
    score: Callable[[JobConfig], object],
    count: int,
    seed: int,
    force: bool,
    workers: int | None,
    address: str | None,
) -> str:
    """Draw and score the background; returns its run directory."""
    plan = load_plan(run.store)
    note = f"{_NOTE}{json.dumps({'variants': count, 'seed': seed, 'like': run.manifest.content_hash})}"
    if not run.store.exists(_VCF) or note not in run.store.read_bytes(_VCF)[:4096].decode("utf-8", "replace"):
        if run.store.exists(_VCF) and not force:
            raise OutputExistsError(
                f"{run.store.uri}/{_VCF} is a background of another size or seed, whose scoring was not finished. Give "
                "the same --n and --seed to go on with it, or --force to begin anew."
            )
        run.store.delete_tree(layout.CALIBRATION_FOLDER)
        with tempfile.TemporaryDirectory(prefix="enformer-ray-background-") as folder:
            drawn = Path(folder) / "background.vcf"
            like = StatisticRows(run).batches(_KEYS)
            draw_background(open_planned_reference(plan), like, run.store.uri, count, seed, drawn, note)
            run.store.put_file(drawn, _VCF)
    job = _job(plan.document.config, run.store, workers, address)
    score(job)
    return job.output


def _job(config: JobConfig, store: RunStore, workers: int | None, address: str | None) -> JobConfig:
    """The job of the background: that of the run, but for its variants and how files of variants are read."""
    table = config.tracks_table
    if table is not None and not table.is_file() and store.exists(layout.TRACK_TABLE):
        table = store.local_path(layout.TRACK_TABLE)
    read = config.catalogue
    return config.model_copy(
        update={
            "variants": (str(store.local_path(_VCF)),),
            "previous": (),
            "output": f"{store.uri}/{_RUN}",
            "tracks_table": table,
            "catalogue": CatalogueConfig(contig_aliases=read.contig_aliases, max_unknown=read.max_unknown),
            "workers": workers or config.workers,
            "address": address or config.address,
        }
    )


def _put_table(run: FinishedRun, background: str, request: dict[str, Any]) -> CalibrationTable:
    """Make the table, check that it is good for the run, and put it into the run's directory, last of all."""
    with tempfile.TemporaryDirectory(prefix="enformer-ray-calibration-") as folder:
        path = Path(folder) / "table.parquet"
        calibrates = {"calibrates": run.manifest.content_hash, "background": request}
        calibrate(background, path, list(run.manifest.statistics), POINTS, calibrates=calibrates)
        table = CalibrationTable(path)
        table.refuse_other_family(run.parts, reference_digests(run.store), run.store.uri)
        tracks = tracks_of(run.track_table)
        for statistic in run.manifest.statistics:
            table.grids(statistic, tracks)
        run.store.put_file(path, layout.CALIBRATION)
    found = own_calibration(run)
    assert found is not None  # it was put there
    return found
