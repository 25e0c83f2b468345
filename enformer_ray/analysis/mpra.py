"""Correlation of scores with measured effects (MPRA, saturation mutagenesis), for each element and track."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.tables import q_values
from enformer_ray.analysis.measured import Measured
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import InputFileError

UNMATCHED = {
    "other_release": "another release than the one that is compared",
    "no_position": "the table has no position",
    "no_value": "the table has no value",
    "few_tags": "rests on fewer tags than --min-tags",
    "low_confidence": "has less confidence than --min-confidence",
    "other_reference": "another reference base than the run's: another assembly, mostly",
    "not_in_run": "the run has no such variant",
    "not_scored": "the run has no score of it",
}
"""Why a row of a table is not compared."""

_MIN_ROWS = 3
_MAX_SHIFT = 64  # bases by which normalisation may move a deletion in a repeat to the left

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Correlations of scores with measured values.

    Attributes:
        table: a row an element and track: element, track (column), description, n (variants compared), pearson,
            pearson_p, pearson_q, spearman, spearman_p, spearman_q; q are adjusted over all rows.
        compared: variants by element.
        unmatched: rows that were left out, by element and reason (a key of `UNMATCHED`).
        release: the release whose rows were compared; None where the table names none.
        in_run: for a table of several releases, among which none was requested, the rows of each that the run has.
    """

    table: pa.Table
    compared: Mapping[str, int]
    unmatched: Mapping[str, Counter[str]]
    release: str | None = None
    in_run: Mapping[str, int] = field(default_factory=dict)


def compare(
    dataset: ScoreDataset,
    statistic: str,
    measured: Mapping[str, Sequence[Measured]],
    min_tags: float | None = None,
    min_confidence: float | None = None,
    release: str | None = None,
) -> Comparison:
    """Correlate scores with measured values.

    p-values are two-sided, of Student's t with n - 2 degrees of freedom, t = r sqrt((n - 2) / (1 - r^2)), for
    Spearman's rho as well; they assume independent variants, which substitutions of one base are not. q-values are
    those of Benjamini & Hochberg 1995.

    Of a table with positions on several releases of the genome, rows of one are compared: of the requested one, or the
    one of which the run has the most variants.

    Args:
        dataset: restricted to the tracks to compare.
        statistic: of the dataset.
        measured: by element.
        min_tags: fewest tags of a row.
        min_confidence: lowest confidence of a row.
        release: as the table has it, in any case; None to choose.

    Raises:
        ConfigError: the dataset has several rows a variant.
        InputFileError: no row of any element is in the run, a limit is on a column that the table lacks, or the
            release is not in the table or not clear.
    """
    dataset.manifest.refuse_genes(dataset.uri)
    columns = dataset.track_table.column("column").to_pylist()
    descriptions = dataset.track_table.column("description").to_pylist()
    chosen, in_run = _release(dataset, statistic, measured, release)
    unmatched: dict[str, Counter[str]] = {}
    compared: dict[str, int] = {}
    correlations = []
    for element, rows in measured.items():
        reasons: Counter[str] = Counter()
        of_release = [row for row in rows if row.release in (None, chosen)]
        reasons["other_release"] = len(rows) - len(of_release)
        usable = _usable(of_release, element, min_tags, min_confidence, reasons)
        scores, values = _matched(dataset, statistic, usable, len(columns), reasons)
        unmatched[element], compared[element] = reasons, len(values)
        correlations.append(
            _ElementCorrelations(element, len(values), _pearson(scores, values), _spearman(scores, values))
        )
    if not any(compared.values()):
        causes = sum(unmatched.values(), Counter())
        listed = "; ".join(f"{number:,}: {UNMATCHED[reason]}" for reason, number in causes.most_common() if number)
        raise InputFileError(
            f"no row of the table can be compared with {dataset.uri} ({listed}). The run should hold the table's "
            "bases, on the same assembly: `enformer-ray saturate` scores all substitutions of a region."
        )
    return Comparison(_table(correlations, columns, descriptions), compared, unmatched, chosen, in_run)


class _ElementCorrelations(NamedTuple):
    """Correlations of one element over its `n` compared variants, one a track."""

    element: str
    n: int
    pearson: Values
    spearman: Values


def _table(
    elements: Sequence[_ElementCorrelations], columns: Sequence[str], descriptions: Sequence[str | None]
) -> pa.Table:
    cells: dict[str, object] = {
        "element": pa.array([one.element for one in elements for _ in columns], pa.string()),
        "track": pa.array(list(columns) * len(elements), pa.string()),
        "description": pa.array(list(descriptions) * len(elements), pa.string()),
        "n": pa.array(np.repeat([one.n for one in elements], len(columns))),
    }
    for name, values in (("pearson", [e.pearson for e in elements]), ("spearman", [e.spearman for e in elements])):
        p = np.concatenate([_p_values(r, one.n) for r, one in zip(values, elements, strict=True)])
        cells |= {name: np.concatenate(values), f"{name}_p": p, f"{name}_q": q_values(p)}
    table = pa.table(cells)
    missing = [pc.if_else(pc.is_nan(c), None, c) if pa.types.is_floating(c.type) else c for c in table.columns]
    return pa.table(missing, names=table.schema.names)


def _release(
    dataset: ScoreDataset, statistic: str, measured: Mapping[str, Sequence[Measured]], wanted: str | None
) -> tuple[str | None, dict[str, int]]:
    """The release to compare, and of several of which none is wanted, the number of rows that the run has of each."""
    names = list(dict.fromkeys(row.release for rows in measured.values() for row in rows if row.release is not None))
    if wanted is not None:
        for name in names:
            if name.lower() == wanted.lower():
                return name, {}
        raise InputFileError(
            f"--release {wanted}: the table has rows of {', '.join(names)}."
            if names
            else f"--release {wanted}: the table has no column Release; leave the option out."
        )
    if len(names) < 2:
        return (names[0] if names else None), {}
    found = {name: _variants_of_release(dataset, statistic, measured, name) for name in names}
    best = max(names, key=lambda name: len(found[name]))
    equal = [name for name in names if len(found[name]) == len(found[best])]
    if any(found[name] != found[best] for name in equal):
        raise InputFileError(
            f"the table has positions on {' and '.join(equal)}, and {dataset.uri} has {len(found[best]):,} of its "
            "variants on each; --release names the assembly of the run."
        )
    return best, {name: len(variants) for name, variants in found.items()}


def _variants_of_release(
    dataset: ScoreDataset, statistic: str, measured: Mapping[str, Sequence[Measured]], release: str
) -> set[tuple[str, str]]:
    """Element and `variant_id` of the rows of a release that the run has, with the reference base of the table."""
    found: set[tuple[str, str]] = set()
    for element, rows in measured.items():
        on_it = [row for row in rows if row.release == release and row.position is not None]
        ids, bases = _run_bases(_of_regions(dataset, on_it), statistic) if on_it else ({}, {})
        found |= {(element, name) for row in on_it if (name := _variant_id(row, bases)) in ids and name is not None}
    return found


def _usable(
    rows: Sequence[Measured],
    element: str,
    min_tags: float | None,
    min_confidence: float | None,
    reasons: Counter[str],
) -> list[Measured]:
    """The rows with a position and a value that fulfil the limits; the others are counted."""
    limits = (
        (min_tags, [row.tags for row in rows], "--min-tags", "few_tags"),
        (min_confidence, [row.confidence for row in rows], "--min-confidence", "low_confidence"),
    )
    for limit, cells, option, _ in limits:
        if limit is not None and rows and all(cell is None for cell in cells):
            raise InputFileError(f"{option} was given, but the table of {element} does not say that; leave it out.")
    usable = []
    for number, row in enumerate(rows):
        below = [
            reason for limit, cells, _, reason in limits if limit is not None and not _reaches(cells[number], limit)
        ]
        if row.position is None or below or np.isnan(row.value):
            reasons["no_position" if row.position is None else below[0] if below else "no_value"] += 1
        else:
            usable.append(row)
    return usable


def _reaches(cell: float | None, limit: float) -> bool:
    return cell is not None and cell >= limit


def _matched(
    dataset: ScoreDataset, statistic: str, rows: Sequence[Measured], tracks: int, reasons: Counter[str]
) -> tuple[Values, Values]:
    """Scores (n, tracks) and values (n,) of the rows that the dataset has."""
    nothing = np.zeros((0, tracks)), np.zeros(0)
    if not rows:
        return nothing
    near = _of_regions(dataset, rows)
    ids, bases = _run_bases(near, statistic)
    matched: list[tuple[int, float]] = []
    for row in rows:
        name = _variant_id(row, bases)
        if name is not None and name in ids:
            matched.append((ids[name], row.value))
        else:
            reasons["other_reference" if _base_differs(row, bases) else "not_in_run"] += 1
    if not matched:
        return nothing
    places, values = np.array([place for place, _ in matched]), np.array([value for _, value in matched])
    scores = _scores(near, statistic, places)
    scored = np.isfinite(scores).all(axis=1)
    reasons["not_scored"] += int((~scored).sum())
    return scores[scored], values[scored]


def _pearson(scores: Values, values: Values) -> Values:
    """Pearson's r of each column of (n, tracks) with (n,); NaN where fewer than 3 rows, or one side is constant."""
    if len(values) < _MIN_ROWS:
        return np.full(scores.shape[1], np.nan)
    x, y = scores - scores.mean(axis=0), values - values.mean()
    scale = np.sqrt((x**2).sum(axis=0) * (y @ y))
    r: Values = np.divide(y @ x, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.clip(r, -1, 1)


def _spearman(scores: Values, values: Values) -> Values:
    """Spearman's rho of the same: Pearson's r of mean ranks."""
    return _pearson(stats.rankdata(scores, axis=0).astype(np.float64), stats.rankdata(values).astype(np.float64))


def _p_values(r: Values, n: int) -> Values:
    if n < _MIN_ROWS:
        return np.full(len(r), np.nan)
    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt((n - 2) / (1 - r**2))
    p: Values = 2 * stats.t.sf(t, n - 2)
    return p


def _of_regions(dataset: ScoreDataset, rows: Sequence[Measured]) -> ScoreDataset:
    spans: dict[str, list[int]] = {}
    for row in rows:
        if row.position is not None:
            spans.setdefault(row.chromosome, []).append(row.position)
    return dataset.where(
        region=[f"{name}:{max(1, min(found) - _MAX_SHIFT)}-{max(1, *found)}" for name, found in spans.items()]
    )


def _run_bases(dataset: ScoreDataset, statistic: str) -> tuple[dict[str, int], dict[tuple[str, int], str]]:
    """Row of each variant, and the reference base of each position that has a substitution."""
    ids: dict[str, int] = {}
    bases: dict[tuple[str, int], str] = {}
    for batch in dataset.to_batches(statistic, []):
        names = ("variant_id", "chromosome", "position", "reference_allele")
        for name, chromosome, position, reference in zip(*(batch.column(n).to_pylist() for n in names), strict=True):
            ids[name] = len(ids)
            bases[chromosome, position] = reference[0]
    return ids, bases


def _base_differs(row: Measured, bases: Mapping[tuple[str, int], str]) -> bool:
    """Whether the run has another reference base at the position than the table."""
    known = bases.get((row.chromosome, row.position or 0))
    return known is not None and known != row.reference[:1]


def _variant_id(row: Measured, bases: Mapping[tuple[str, int], str]) -> str | None:
    """Its `variant_id` in a dataset: a deleted base (`-`, or AC>A) is moved as far left as its repeat allows."""
    chromosome, reference, alternate = row.chromosome, row.reference, row.alternate
    position = row.position or 0
    if _base_differs(row, bases):
        return None
    if len(reference) == 2 and len(alternate) == 1 and reference[0] == alternate:
        position, reference, alternate = position + 1, reference[1], "-"
    if alternate != "-":
        return f"{chromosome}_{position}_{reference}_{alternate}"
    if len(reference) != 1 or bases.get((chromosome, position), reference) != reference:
        return None
    while (anchor := bases.get((chromosome, position - 1))) == reference:
        position -= 1
    return None if anchor is None else f"{chromosome}_{position - 1}_{anchor}{reference}_{anchor}"


def _scores(dataset: ScoreDataset, statistic: str, places: NDArray[np.int64]) -> Values:
    """Scores (places, tracks) of some rows of a dataset."""
    columns = dataset.track_table.column("column").to_pylist()
    found = np.full((len(places), len(columns)), np.nan)
    first = 0
    for batch in dataset.to_batches(statistic):
        inside = np.flatnonzero((places >= first) & (places < first + len(batch)))
        if len(inside):
            rows = batch.take(pa.array(places[inside] - first))
            for track, name in enumerate(columns):
                found[inside, track] = pc.fill_null(rows.column(name), np.nan).to_numpy(zero_copy_only=False)
        first += len(batch)
    return found
