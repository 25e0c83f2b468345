"""Contents of a report: tables and figures of a finished run, and the timeline of its workers, as plain values."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from enformer_ray.analysis import plots
from enformer_ray.analysis.plots import genome_axis, variant_label
from enformer_ray.analysis.profiles import Profile, nearest_genes, top_variants
from enformer_ray.analysis.sweep import Distribution, Overview
from enformer_ray.dataset.selection import labels
from enformer_ray.errors import DatasetCorruptError, shortened
from enformer_ray.genome.annotation import Gene
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import (
    AttemptFailed,
    RunStarted,
    RunStopped,
    VariantFailed,
    WorkerLost,
    WorkerQuarantined,
    read_events,
)
from enformer_ray.rundir.receipts import WORK_STEPS, Receipt
from enformer_ray.rundir.store import RunStore, parse_document

MAX_BARS = 20_000
"""Bars of the timeline: in a larger run, consecutive bars of a worker are joined."""

MAX_RATES = 120
"""Points of the throughput curve."""

MAX_LISTED = 50
"""Disturbances that are listed."""

_DISTURBANCES = [event.kind for event in (AttemptFailed, WorkerLost, WorkerQuarantined, VariantFailed, RunStopped)]

Rows = list[tuple[str, str]]
"""Name and value; the template escapes both."""

Bar = tuple[int, float, float, int, int]
"""Worker, start, end (seconds since the run began), variants, parts."""

_MAX_TEXT = 300  # characters
_DIGESTS = ("weights", "reference", "catalogue")

MAX_GENES = 40
"""Genes of one profile; protein-coding ones come first."""

_MAX_ID = 60  # characters


def job_options(run: Mapping[str, Any]) -> Rows:
    """The options of the job, one a row, without empty ones."""
    config = dict(run["config"])
    rows: Rows = []
    for section in ("", "scoring", "catalogue", "genes"):
        top_level = {name: value for name, value in config.items() if not isinstance(value, dict)}
        options = (config.pop(section, None) or {}) if section else top_level
        given = {name: value for name, value in options.items() if _is_given(value)}
        rows += [(f"{section}.{name}".lstrip("."), _formatted(value)) for name, value in given.items()]
    return rows


def provenance(run: Mapping[str, Any], overview: Overview) -> Rows:
    """Versions, digests, devices."""
    manifest = overview.run.manifest
    rows = [(name.replace("_", "-"), str(version)) for name, version in run["versions"].items()]
    rows += [("devices", _formatted(run["devices"])), ("hosts", _formatted(run["hosts"]))]
    rows += [("planned", str(run["planned"])), ("finished", manifest.created)]
    rows += [(f"digest of {name}", str(run["parts"][name])) for name in _DIGESTS if name in run["parts"]]
    rows += [("fingerprint", str(run["fingerprint"])), ("content hash", manifest.content_hash)]
    previous_runs = (run.get("reuse") or {}).get("runs", ())
    rows += [(f"rows taken from {previous['uri']}", f"{previous['reused']:,}") for previous in previous_runs]
    return [(name, shortened(value, _MAX_TEXT)) for name, value in rows]


def account(overview: Overview) -> list[dict[str, Any]]:
    """Input alleles by status and reason, with their share."""
    lines = overview.run.manifest.account
    alleles = sum(line.alleles for line in lines)
    return [
        {
            "status": line.status,
            "reason": (line.reason or "").replace("_", " "),
            "alleles": line.alleles,
            "share": line.alleles / alleles if alleles else 0,
        }
        for line in lines
    ]


def changes(run: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Counts of harmonised and lifted alleles: step, way, number."""
    return [
        (name, way.replace("_", " "), number)
        for name, counts in run.get("changes", {}).items()
        for way, number in sorted(counts.items(), key=lambda item: -item[1])
    ]


def top(overview: Overview, gtf: Path | None) -> list[dict[str, Any]]:
    """The variants with the largest scores or quantiles."""
    names = labels(overview.tracks)
    variants = top_variants(overview)
    genes: Sequence[tuple[Gene, int] | None] = [None] * len(variants)
    if gtf is not None and not has_genes(overview):
        genes = nearest_genes(variants, gtf, overview.plan.document.contig_aliases)
    return [
        {
            "variant": variant_label(variant),
            "source": shortened(row["source_id"]),
            "indel": row["indel_convention"],
            "track": shortened(names[row["track"]], 120),
            "score": f"{row['score']:.4g}",
            "quantile": f"{row['quantile']:.6g}" if "quantile" in row else "",
            "z": f"{row['z']:.4g}" if "z" in row else "",
            "p": "" if not overview.inputs.has_p or row["height"] != row["height"] else _p_value(row["height"]),
            "gene": _own_gene(row) if gene is None else f"{shortened(gene[0].name, 40)} ({gene[1]:,} bp)",
        }
        for row, variant, gene in zip(overview.top.to_pylist(), variants, genes, strict=True)
    ]


def has_genes(overview: Overview) -> bool:
    """Whether the run scored genes, so that each row names its gene."""
    return overview.run.manifest.genes is not None


def _own_gene(row: Mapping[str, Any]) -> str:
    """Gene of a row of gene scores and distance of the variant from its start; empty for other scores."""
    return f"{shortened(row['gene_name'], 40)} ({row['tss_distance']:+,} bp)" if "gene_name" in row else ""


def _p_value(minus_log10: float) -> str:
    """A p-value from its logarithm, even if it is too small for a float."""
    exponent = int(-(-minus_log10 // 1))
    mantissa = 10 ** (exponent - minus_log10)
    if mantissa >= 9.95:  # would be written as 10.0
        mantissa, exponent = mantissa / 10, exponent - 1
    return f"{10**-minus_log10:.3g}" if exponent <= 3 else f"{mantissa:.1f}e-{exponent}"


def _is_given(value: Any) -> bool:
    return value is not None and value not in ([], {}, "")


def _formatted(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return shortened("; ".join(f"{key}: {item}" for key, item in value.items()), _MAX_TEXT)
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 8:,} more" if len(value) > 8 else ""
        return ", ".join(shortened(str(item), _MAX_TEXT) for item in value[:8]) + more
    return shortened(str(value), _MAX_TEXT)


def height_label(overview: Overview) -> str:
    """Label of the y axis of the Manhattan plot."""
    return "-log10 p" if overview.inputs.has_p else f"|{overview.statistic}|"


def manhattan(overview: Overview) -> dict[str, Any]:
    """Data of the Manhattan plot: points as columns, in genome order."""
    points = overview.points
    spans, numbers, x = genome_axis(points)
    score = points.column("score").to_numpy()
    breaks = plots.limits(np.abs(score))
    top = set(overview.top.column("variant").to_pylist())
    names = [shortened(label) for label in labels(overview.tracks)]
    used, track = np.unique(points.column("track").to_numpy(), return_inverse=True)
    return {
        "stretches": [asdict(span) for span in spans],
        "stretch": numbers.tolist(),
        "x": x.tolist(),
        "y": [rounded(value) for value in points.column("height").to_pylist()],
        "score": [rounded(value, 4) for value in score.tolist()],
        "class": plots.classes(score, breaks).tolist(),
        "track": track.tolist(),
        "tracks": [names[number] for number in used.tolist()],
        "id": [shortened(name, _MAX_ID) for name in points.column("variant_id").to_pylist()],
        "source": [shortened(name, _MAX_ID) for name in points.column("source_id").to_pylist()],
        "top": [i for i, variant in enumerate(points.column("variant").to_pylist()) if variant in top],
        "limits": breaks,
        "colours": list(plots.CLASSES),
        "height": height_label(overview),
        "statistic": overview.statistic,
    }


def distribution(found: Distribution) -> dict[str, Any]:
    """Data of one histogram."""
    return {
        "assay": found.assay,
        "edges": found.edges,
        "up": found.up,
        "down": found.down,
        "floor": None if not found.floor else float(np.log10(found.floor)),
    }


def timeline_figure(found: Timeline) -> dict[str, Any]:
    """Data of the bars of workers and the throughput curve."""
    return {
        "workers": [shortened(name) for name in found.workers],
        "bars": [(bar[0], round(bar[1], 3), round(bar[2], 3), *bar[3:]) for bar in found.bars],
        "seconds": found.seconds,
        "rates": found.rates,
    }


def profile(found: Profile, label: str, names: Sequence[str], genes: Sequence[Gene] | None) -> dict[str, Any]:
    """Data of the reference and alternate tracks around one variant, with the genes there."""
    shown = sorted(genes or (), key=lambda gene: (gene.kind != "protein_coding", gene.start))[:MAX_GENES]
    return {
        "label": shortened(label),
        "start": found.start,
        "bin": found.bin,
        "variant": found.variant.position,
        "chromosome": shortened(found.variant.chromosome, 40),
        "tracks": [
            {
                "name": shortened(name),
                "reference": [rounded(v) for v in found.reference[:, i].tolist()],
                "alternate": [rounded(v) for v in found.alternate[:, i].tolist()],
                "difference": [rounded(v, 4) for v in (found.alternate - found.reference)[:, i].tolist()],
            }
            for i, name in enumerate(names)
        ],
        "genes": [
            {
                "name": shortened(gene.name, 40),
                "strand": gene.strand,
                "start": gene.start,
                "end": gene.end,
                "exons": gene.exons,
            }
            for gene in sorted(shown, key=lambda gene: gene.start)
        ],
    }


def rounded(number: float, digits: int = 5) -> float | None:
    """A number to some significant digits; None for NaN and infinities."""
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


@dataclass(frozen=True)
class Timeline:
    """Work of the workers over time, from the receipts of parts.

    Attributes:
        began: start of the first part, UTC; empty when nothing was scored.
        seconds: from the start of the first part to the end of the last.
        variants: scored ones.
        parts: number of parts (shards, or pieces of divided ones).
        workers: names, in the order in which they began.
        devices: of each worker.
        bars: by worker and start.
        joined: whether bars cover several parts.
        rates: (seconds since `began`, variants a second).
        steps: seconds that all workers spent, by step.
    """

    began: str
    seconds: float
    variants: int
    parts: int
    workers: list[str]
    devices: list[str]
    bars: list[Bar]
    joined: bool
    rates: list[tuple[float, float]]
    steps: dict[str, float]


def read_timeline(store: RunStore) -> Timeline:
    """The timeline of all receipts of a run."""
    paths = [path for path in store.list(layout.RECEIPTS) if layout.shard_and_part(path) is not None]
    return timeline(_receipts(store, paths))


def _receipts(store: RunStore, paths: list[str]) -> Iterable[Receipt]:
    for path, content in zip(paths, store.read_many(paths), strict=True):
        yield parse_document(content, Receipt.model_validate_json, partial(_no_receipt, store, path))


def _no_receipt(store: RunStore, path: str, why: str) -> DatasetCorruptError:
    return DatasetCorruptError(f"{store.uri}/{path} is not a receipt of this version ({why}).")


def timeline(receipts: Iterable[Receipt]) -> Timeline:
    """The timeline of receipts, without those of failed variants, which have no times."""
    spans: list[tuple[float, float, int, int]] = []  # start, end, worker, rows
    workers: dict[str, str] = {}
    numbers: dict[str, int] = {}
    steps = dict.fromkeys(("waited", *WORK_STEPS), 0.0)
    for receipt in receipts:
        if receipt.failure is not None:
            continue
        times = receipt.timings
        start = datetime.fromisoformat(times.started).timestamp()
        end = start + sum(getattr(times, step) for step in WORK_STEPS)
        workers.setdefault(receipt.worker, receipt.device)
        spans.append((start, end, numbers.setdefault(receipt.worker, len(numbers)), receipt.rows))
        for step in steps:
            steps[step] += getattr(times, step)
    if not spans:
        return Timeline("", 0.0, 0, 0, [], [], [], False, [], steps)
    spans.sort()
    first, last = spans[0][0], max(end for _, end, _, _ in spans)
    order = {number: place for place, number in enumerate(dict.fromkeys(worker for _, _, worker, _ in spans))}
    names = list(workers)
    bars = [(order[worker], start - first, end - first, rows, 1) for start, end, worker, rows in spans]
    joined = len(bars) > MAX_BARS
    began = datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds")
    return Timeline(
        began=began,
        seconds=last - first,
        variants=sum(rows for *_, rows in spans),
        parts=len(spans),
        workers=[names[number] for number in order],
        devices=[workers[names[number]] for number in order],
        bars=_joined(bars) if joined else bars,
        joined=joined,
        rates=_rates(bars, last - first),
        steps={step: round(seconds, 3) for step, seconds in steps.items()},
    )


def _joined(bars: list[Bar]) -> list[Bar]:
    """At most about `MAX_BARS` bars: bars of a worker are joined across the shortest pauses."""
    by_worker = sorted(bars)
    gaps = [
        (right[1] - left[2] if right[0] == left[0] else float("inf"), i)
        for i, (left, right) in enumerate(pairwise(by_worker))
    ]
    join = {i for gap, i in heapq.nsmallest(len(bars) - MAX_BARS, gaps) if gap < float("inf")}
    result: list[Bar] = []
    for i, bar in enumerate(by_worker):
        if i - 1 in join and result:
            worker, start, _, rows, parts = result[-1]
            result[-1] = (worker, start, bar[2], rows + bar[3], parts + bar[4])
        else:
            result.append(bar)
    return result


def _rates(bars: list[Bar], seconds: float) -> list[tuple[float, float]]:
    """Variants a second over time; those of a part are spread evenly over its time."""
    if seconds <= 0:
        return []
    edges = np.linspace(0, seconds, min(MAX_RATES, max(2, len(bars))) + 1)
    # Variants done at each edge: a sum of ramps, a part's being linear from its start to its end.
    start, end, rows = (np.array([bar[i] for bar in bars], float) for i in (1, 2, 3))
    done = np.zeros(len(edges))
    for first in range(0, len(bars), 4096):  # bounds the memory of (edges, bars)
        cut = slice(first, first + 4096)
        length = np.maximum(end[cut] - start[cut], 1e-9)
        share = np.clip((edges[:, None] - start[cut]) / length, 0, 1)
        done += share @ rows[cut]
    rates = np.diff(done) / np.diff(edges)
    return [(round(float(at), 3), float(f"{rate:.4g}")) for at, rate in zip(edges[1:], rates, strict=True)]


@dataclass(frozen=True)
class Disturbances:
    """Failed attempts, lost workers and the like, from the events of a run.

    Attributes:
        counts: by event and cause.
        first: the first ones, with at, event, cause, part, worker, detail.
        drivers: number of drivers that scored: more than one if the run was resumed.
    """

    counts: list[tuple[str, str, int]]
    first: list[dict[str, str]]
    drivers: int


def read_disturbances(store: RunStore) -> Disturbances:
    """The disturbances of a run."""
    counts: dict[tuple[str, str], int] = {}
    first: list[dict[str, str]] = []
    epochs: set[int] = set()
    for event in read_events(store):
        if event["event"] == RunStarted.kind:
            epochs.add(event.get("epoch", 0))
        if event["event"] not in _DISTURBANCES:
            continue
        cause = str(event.get("cause") or event.get("reason") or event.get("why") or "")
        key = (event["event"], shortened(cause))
        counts[key] = counts.get(key, 0) + 1
        if len(first) < MAX_LISTED:
            first.append(_line(event, cause))
    return Disturbances([(event, cause, number) for (event, cause), number in counts.items()], first, len(epochs))


def _line(event: Mapping[str, Any], cause: str) -> dict[str, str]:
    line = {name: str(event.get(name, "")) for name in ("at", "event", "part", "worker")}
    detail = " ".join(str(event.get("detail", "")).split())
    return line | {"cause": shortened(cause), "detail": shortened(detail, 300)}
