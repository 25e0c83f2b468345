"""Correlation of scores with measured effects (MPRA, saturation mutagenesis), for each element and track."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.statistics import q_values
from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import InputFileError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

_NAMES = {
    "chromosome": ("chrom", "chr", "chromosome"),
    "position": ("pos", "position"),
    "reference": ("ref", "reference", "reference_allele"),
    "alternate": ("alt", "alternate", "alternate_allele"),
    "value": ("value",),
    "element": ("element",),
    "tags": ("tags",),
    "confidence": ("confidence",),
}
"""Column names by role, in lower case, without a leading #."""

_OPTIONAL = ("element", "tags", "confidence")
_MISSING = frozenset({"", ".", "na", "nan", "null"})

UNMATCHED = {
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


class Measured(NamedTuple):
    """One measured variant.

    Attributes:
        chromosome: canonical name.
        position: 1-based.
        reference: bases.
        alternate: bases, or `-` where the reference base is deleted.
        value: measured effect, the larger the more expression; NaN where the table has none.
        tags: number of barcodes; None where the table has no such column or value.
        confidence: None where the table has no such column or value.
    """

    chromosome: str
    position: int
    reference: str
    alternate: str
    value: float
    tags: float | None
    confidence: float | None


def read_measured(paths: Sequence[Path]) -> dict[str, list[Measured]]:
    """Measured variants by element, in the order of the files.

    The layout is that of the CAGI5 challenge "Regulation Saturation" (Shigaki et al. 2019, Hum Mutat 40:1280) and of
    the tables of Kircher et al. 2019 (Nat Commun 10:3583): chromosome, position (1-based), ref, alt, value, by name and
    in any order, and optionally element, tags, confidence. Parquet, or text separated by tabs, commas or blanks, plain
    or packed; lines that begin with # are comments, except the line of column names.

    Args:
        paths: of tables; without a column `element`, each is one element with the file's name.

    Raises:
        InputFileError: a file or a column is missing, or a cell cannot be read.
        VariantFileError: a packed file is damaged.
    """
    found: dict[str, list[Measured]] = {}
    for path in paths:
        if not path.is_file():
            raise InputFileError(f"the table {path} does not exist; check the path.")
        stem = path.name.split(".")[0]
        rows = _parquet_rows(path) if path.suffix in {".parquet", ".pq"} else _text_rows(path)
        for where, cells in rows:
            found.setdefault(cells.get("element") or stem, []).append(_measured(cells, where))
    if not any(found.values()):
        raise InputFileError(f"there is no row in {', '.join(map(str, paths))}; check that the files are whole.")
    return found


def _places(names: Sequence[str]) -> dict[str, int]:
    """Index of each role's column."""
    plain = [name.strip().strip('"').lstrip("#").lower().replace("-", "_") for name in names]
    return {
        role: next(plain.index(alias) for alias in aliases if alias in plain)
        for role, aliases in _NAMES.items()
        if any(alias in plain for alias in aliases)
    }


def _lacking(places: dict[str, int]) -> list[str]:
    return [role for role in _NAMES if role not in places and role not in _OPTIONAL]


@dataclass(frozen=True)
class _Header:
    """Separator of cells (None: blanks) and index of each role's column."""

    separator: str | None
    places: dict[str, int]


def _text_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    header: _Header | None = None
    for number, line in text_lines(path):
        if header is None:
            header = _header(line, path)
        elif not line.startswith("#"):
            yield f"{path}, line {number}", _cells(line, header, path, number)


def _header(line: str, path: Path) -> _Header | None:
    """The line of column names; None for a comment."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    places = _places(line.split(separator))
    lacking = _lacking(places)
    if not lacking:
        return _Header(separator, places)
    if line.startswith("#"):
        return None
    raise InputFileError(
        f"{path} has no column for {', '.join(lacking)} in its first line ({line[:80]!r}). A table of measured effects "
        "names its columns Chrom, Pos, Ref, Alt and Value, and as it has them Element, Tags, Confidence."
    )


def _cells(line: str, header: _Header, path: Path, number: int) -> dict[str, str]:
    cells = line.split(header.separator)
    if len(cells) <= max(header.places.values()):
        raise InputFileError(f"{path}, line {number} has {len(cells)} cells, fewer than the line of column names.")
    return {role: cells[place].strip().strip('"') for role, place in header.places.items()}


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputFileError(f"{path} cannot be read as Parquet: {error}") from None
    places = _places(table.schema.names)
    if lacking := _lacking(places):
        raise InputFileError(f"{path} has no column for {', '.join(lacking)}.")
    columns = {role: table.column(place).to_pylist() for role, place in places.items()}
    for number in range(table.num_rows):
        cells = {role: column[number] for role, column in columns.items()}
        yield f"{path}, row {number + 1}", {role: "" if c is None else str(c) for role, c in cells.items()}


def _measured(cells: dict[str, str], where: str) -> Measured:
    try:
        position = int(cells["position"].replace(",", ""))
        value, tags, confidence = (_number(cells.get(role, "")) for role in ("value", "tags", "confidence"))
    except ValueError as error:
        raise InputFileError(f"{where}: {error}; positions, values, tags and confidence are numbers.") from None
    return Measured(
        canonical_name(cells["chromosome"]),
        position,
        cells["reference"].upper(),
        cells["alternate"].upper() or "-",
        math.nan if value is None else value,
        tags,
        confidence,
    )


def _number(text: str) -> float | None:
    return None if text.lower() in _MISSING else float(text)


@dataclass(frozen=True)
class Comparison:
    """Correlations of scores with measured values.

    Attributes:
        table: a row an element and track: element, track (column), description, n (variants compared), pearson,
            pearson_p, pearson_q, spearman, spearman_p, spearman_q; q are adjusted over all rows.
        compared: variants by element.
        unmatched: rows that were left out, by element and reason (a key of `UNMATCHED`).
    """

    table: pa.Table
    compared: Mapping[str, int]
    unmatched: Mapping[str, Counter[str]]


def compare(
    dataset: ScoreDataset,
    statistic: str,
    measured: Mapping[str, Sequence[Measured]],
    min_tags: float | None = None,
    min_confidence: float | None = None,
) -> Comparison:
    """Correlate scores with measured values.

    p-values are two-sided, of Student's t with n - 2 degrees of freedom, t = r sqrt((n - 2) / (1 - r^2)), for
    Spearman's rho as well; they assume independent variants, which substitutions of one base are not. q-values are
    those of Benjamini & Hochberg 1995.

    Args:
        dataset: restricted to the tracks to compare.
        statistic: of the dataset.
        measured: by element.
        min_tags: fewest tags of a row.
        min_confidence: lowest confidence of a row.

    Raises:
        ConfigError: the dataset has several rows a variant.
        InputFileError: no row of any element is in the run, or a limit is on a column that the table lacks.
    """
    dataset.manifest.refuse_genes(dataset.uri)
    columns = dataset.track_table.column("column").to_pylist()
    descriptions = dataset.track_table.column("description").to_pylist()
    unmatched: dict[str, Counter[str]] = {}
    compared: dict[str, int] = {}
    correlations = []
    for element, rows in measured.items():
        reasons: Counter[str] = Counter()
        usable = [row for row in rows if not _left_out(row, element, min_tags, min_confidence, reasons)]
        scores, values = _matched(dataset, statistic, usable, len(columns), reasons)
        unmatched[element], compared[element] = reasons, len(values)
        correlations.append(
            _ElementCorrelations(element, len(values), _pearson(scores, values), _spearman(scores, values))
        )
    if not any(compared.values()):
        causes = sum(unmatched.values(), Counter())
        listed = "; ".join(f"{number:,}: {UNMATCHED[reason]}" for reason, number in causes.most_common())
        raise InputFileError(
            f"no row of the table can be compared with {dataset.uri} ({listed}). The run should hold the table's "
            "bases, on the same assembly: `enformer-ray saturate` scores all substitutions of a region."
        )
    return Comparison(_table(correlations, columns, descriptions), compared, unmatched)


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


def _left_out(
    row: Measured, element: str, min_tags: float | None, min_confidence: float | None, reasons: Counter[str]
) -> bool:
    for limit, cell, option, reason in (
        (min_tags, row.tags, "--min-tags", "few_tags"),
        (min_confidence, row.confidence, "--min-confidence", "low_confidence"),
    ):
        if limit is not None and cell is None:
            raise InputFileError(
                f"{option} was given, but the table of {element} does not say that of "
                f"{row.chromosome}:{row.position} {row.reference}>{row.alternate}; leave the option out."
            )
        if limit is not None and cell is not None and cell < limit:
            reasons[reason] += 1
            return True
    if np.isnan(row.value):
        reasons["no_value"] += 1
        return True
    return False


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
        if bases.get((row.chromosome, row.position), row.reference[:1]) != row.reference[:1]:
            reasons["other_reference"] += 1
        elif name is None or name not in ids:
            reasons["not_in_run"] += 1
        else:
            matched.append((ids[name], row.value))
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
    names = dict.fromkeys(row.chromosome for row in rows)
    spans = {name: [row.position for row in rows if row.chromosome == name] for name in names}
    return dataset.where(
        region=[f"{name}:{max(1, min(found) - _MAX_SHIFT)}-{max(found)}" for name, found in spans.items()]
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


def _variant_id(row: Measured, bases: Mapping[tuple[str, int], str]) -> str | None:
    """Its `variant_id` in a dataset: a deleted base (`-`, or AC>A) is moved as far left as its repeat allows."""
    chromosome, position, reference, alternate = row[:4]
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
