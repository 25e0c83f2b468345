"""The identity of a score: what must be the same for the score of an earlier run to be taken for this one.

Everything that the fingerprint holds counts, but for the catalogue and the digest of the whole reference: in their
place stand the variant itself and the digests of the blocks that its own windows touch (`run/reuse.py`). An earlier
run may have more tracks and statistics, and lack statistics that follow from what it has (`scoring/derived.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.config import JobConfig, Statistic
from enformer_ray.errors import DeviceError
from enformer_ray.model.tracks import TrackTable
from enformer_ray.plan.earlier import EarlierRun
from enformer_ray.plan.fingerprint import differing, model_parts, ranges, scoring_parts
from enformer_ray.plan.job import Job
from enformer_ray.rundir import layout
from enformer_ray.scoring.derived import stored_for
from enformer_ray.scoring.device import resolve_device

_SUBSETS = ("tracks", "statistics", "centre_widths")
"""Parts of which an earlier run may hold more."""


def as_before(config: JobConfig, earlier: Sequence[EarlierRun]) -> JobConfig:
    """The job with batch size and threads of the first earlier run where it leaves them open.

    They change the last bits of a score, and a default that depends on the machine must not decide whether scores are
    taken. Where the device is another one, nothing is taken in any case.
    """
    if not earlier:
        return config
    parts, scoring = earlier[0].parts, config.scoring
    try:
        device = resolve_device(scoring.device).type
    except DeviceError:  # GPUs of a cluster, perhaps
        device = scoring.device
    if device != parts.get("device"):
        return config
    kept = {name: getattr(scoring, name) or parts.get(name) for name in ("batch_size", "threads")}
    return config.model_copy(update={"scoring": scoring.model_copy(update=kept)})


def differences(earlier: EarlierRun, job: Job) -> tuple[str, ...]:
    """How the scores of an earlier run are made otherwise than those of a job, in words; none if in no way."""
    asked = model_parts(job.weights_digest, job.geometry) | scoring_parts(
        job.config.scoring, job.tracks, job.track_table
    )
    compared = json.loads(json.dumps({name: value for name, value in asked.items() if name not in _SUBSETS}))
    lines = [f"{part}: {there} there, {here} here" for part, there, here in differing(earlier.parts, compared)]
    if "genes" in earlier.parts:
        lines.append("genes: its scores are those at transcription starts")
    statistics = job.config.scoring.statistics
    stored, shifts = earlier.manifest.statistics, job.config.scoring.shifts
    missing = [name for name in statistics if stored_for(name, stored, shifts) is None]
    if missing:
        lines.append(f"statistics: it has no {', '.join(missing)}")
    tracks = sorted(set(job.tracks) - set(earlier.tracks))
    if tracks:
        lines.append(f"tracks: it has not {_short(ranges(tracks))}")
    elif "centre" in statistics and "centre" not in missing and job.track_table is not None:
        widths = _centre_widths(earlier)
        others = [track for track in job.tracks if widths[track] != job.track_table.centre_width(track)]
        if others:
            lines.append(f"centre: another width of tracks {_short(ranges(others))}")
    return tuple(lines)


def derived(earlier: EarlierRun, job: Job) -> tuple[Statistic, ...]:
    """Statistics of a job that an earlier run has not stored, and that follow from those that it has."""
    stored, shifts = earlier.manifest.statistics, job.config.scoring.shifts
    return tuple(s for s in job.config.scoring.statistics if s not in stored and stored_for(s, stored, shifts))


def _centre_widths(earlier: EarlierRun) -> dict[int, int]:
    """Widths of the statistic `centre`, by track, as the run's own table of tracks has them."""
    rows = pq.read_table(pa.BufferReader(earlier.store.read_bytes(layout.TRACKS))).to_pylist()
    names = ("identifier", "assay", "description", "genome")
    columns: Any = [tuple(row[name] or "" for row in rows) for name in names]
    table = TrackTable(*columns)
    return {int(row["index"]): table.centre_width(place) for place, row in enumerate(rows)}


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
