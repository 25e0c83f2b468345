"""Reads rows of a finished run: scores by the number of the variant, and input alleles."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import VariantFilter
from enformer_ray.errors import ConfigError, SelectionError
from enformer_ray.readers.row_groups import NumberedRows, RowGroup
from enformer_ray.rundir.layout import ROW_COLUMNS

Floats = NDArray[np.float32]

BATCH_VALUES = 2**24
"""Numbers in memory at a time: 64 MiB of scores."""

_BLOCK_VALUES = 2**22
_MAX_ROWS = 65_536
_MAX_HELD_GROUPS = 4
_POSITION = ROW_COLUMNS.index("position")
_P, _LOG_P = "p_value", "neg_log_10_p_value"


class StatisticRows:
    """The rows of one statistic by number: `variant`, their order in the dataset. Not thread-safe.

    Args:
        run: the finished run.
        statistic: one of its statistics; None is the first.

    Attributes:
        statistic: its name.
        rows: number of rows.
        keys: columns that identify a row.

    Raises:
        ConfigError: the dataset has no such statistic.
    """

    def __init__(self, run: FinishedRun, statistic: str | None = None) -> None:
        self.statistic = run.manifest.statistic(statistic, run.store.uri)
        self._run, self._files = run, run.score_files(self.statistic)
        self.rows = sum(file.rows for file in self._files)
        self.keys = run.row_columns
        sizes = [file.rows for file in self._files]
        self._numbered = NumberedRows(sizes, lambda file: run.open(self._files[file].path), _MAX_HELD_GROUPS)

    def chromosomes(self) -> dict[str, tuple[int, int]]:
        """Number of the first variant and exclusive end of each chromosome, in order."""
        spans: dict[str, tuple[int, int]] = {}
        for file in self._files:
            spans[file.chromosome] = (spans.get(file.chromosome, (file.first,))[0], file.first + file.rows)
        return spans

    def groups(self) -> Iterator[RowGroup]:
        """All row groups, in order."""
        for file in range(len(self._files)):
            yield from self._numbered.groups(file)

    def batches(self, columns: Sequence[str], chromosome: str | None = None) -> Iterator[pa.RecordBatch]:
        """Columns of all rows, or of those of a chromosome, in order, a batch at a time."""
        size = batch_rows(len(columns))
        for number, file in enumerate(self._files):
            if chromosome is None or chromosome == file.chromosome:
                for batch in self._numbered.file(number).iter_batches(batch_size=size, columns=list(columns)):
                    yield batch.select(list(columns))

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group, in the order of `columns`."""
        return self._numbered.read(group, columns)

    def blocks(self, group: RowGroup, columns: Sequence[str]) -> Iterator[tuple[slice, Floats]]:
        """Scores of a row group on some tracks, at most 2^22 values at a time.

        Yields:
            Which of the `columns` these are, and their scores (rows, tracks).
        """
        width = max(1, _BLOCK_VALUES // max(1, group.rows))
        for start in range(0, len(columns), width):
            names = list(columns[start : start + width])
            table = self.read(group, names)
            values = np.empty((len(names), group.rows), np.float32)  # a track after the other, as they are read
            for row, column in zip(values, table.columns, strict=True):
                row[:] = column.to_numpy()
            yield slice(start, start + len(names)), values.T

    def take(self, variants: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Rows by the numbers of variants, in this order; null where a number is negative. Fast if they mostly rise."""
        return self._numbered.take(variants, columns)

    def pieces(self, variants: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Rows by the numbers of variants, ascending: a table for each row group that holds some of them."""
        return self._numbered.pieces(variants, columns)

    def scores(self, variants: Sequence[int], columns: Sequence[str]) -> Floats:
        """Scores (variants, tracks) of a few variants, given by their numbers, on any number of tracks."""
        found = np.full((len(variants), len(columns)), np.nan, np.float32)
        numbers = np.asarray(variants, np.int64)
        order = np.argsort(numbers, kind="stable")
        for group, some in self._numbered.holding(numbers[order]):
            here = order[some]
            for block, values in self.blocks(group, columns):
                found[here, block] = values[numbers[here] - group.first]
        return found

    def find(self, variant_id: str) -> int:
        """Number of a variant, by its id.

        Raises:
            ConfigError: the dataset has no such variant.
        """
        position = int(cells[1]) if len(cells := variant_id.rsplit("_", 3)) == 4 and cells[1].isdecimal() else 0
        # Statistics of positions leave one row group to be read, or a few where a position has many variants.
        for number, file in enumerate(self._files):
            if file.chromosome == cells[0]:
                for group in self._numbered.groups(number):
                    if self._may_hold(group, position):
                        row = pc.index(self.read(group, ["variant_id"]).column(0), variant_id).as_py()
                        if row >= 0:
                            return group.first + int(row)
        raise ConfigError(
            f"{self._run.store.uri} has no variant {variant_id!r}; ids are chromosome_position_reference_alternate "
            "without chr, normalised, as the column variant_id of its scores has them (1_1024_A_C)."
        )

    def _may_hold(self, group: RowGroup, position: int) -> bool:
        found = self._numbered.file(group.file).metadata.row_group(group.number).column(_POSITION).statistics
        return found is None or not found.has_min_max or bool(found.min <= position <= found.max)


def batch_rows(columns: int) -> int:
    """Number of rows that are handled at a time, from the number of columns."""
    return max(1, min(_MAX_ROWS, BATCH_VALUES // max(1, columns)))


def with_source_ids(runs: Sequence[FinishedRun], source_ids: Iterable[str]) -> VariantFilter:
    """Variants of which an input has one of the names as its `source_id` or `rsid`.

    Of a `source_id` of several names (`rs1;rs2`), each counts.
    """
    names = {source_ids} if isinstance(source_ids, str) else set(source_ids)
    lists: set[str] = set()
    several = pc.match_substring_regex(pc.field("source_id"), "[;,]")
    for run in runs:
        texts = inputs(run).to_table(columns=["source_id"], filter=several).column("source_id").unique().to_pylist()
        lists.update(text for text in texts if not names.isdisjoint(re.split("[;,]", text)))
    found = pa.array(sorted(names | lists), pa.string())
    return VariantFilter(ids=_ids(runs, pc.field("source_id").isin(found) | pc.field("rsid").isin(found)))


def with_p_below(runs: Sequence[FinishedRun], threshold: float) -> VariantFilter:
    """Variants of which an input has a p-value below the threshold, those too small for a float64 included."""
    below = (pc.field(_P) < threshold) | (pc.field(_LOG_P) > -math.log10(threshold))
    found = _ids(runs, below)
    if not len(found) and not any(inputs(run).count_rows(filter=_has_p()) for run in runs):
        raise SelectionError(
            f"p_below={threshold:g} cannot be answered: no input of {', '.join(run.store.uri for run in runs)} has a "
            "p-value. Score summary statistics to have them in the dataset."
        )
    return VariantFilter(ids=found)


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that is not above 0 and at most 1."""
    if not 0 < threshold <= 1:
        raise SelectionError(f"p_below={threshold!r} is no threshold of p-values; give a number above 0, at most 1.")


def _has_p() -> pc.Expression:
    return pc.field(_P).is_valid() | pc.field(_LOG_P).is_valid()


def inputs(run: FinishedRun) -> pads.Dataset:
    """Input alleles with their status."""
    source = run.source(run.inputs())
    return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet")


def _ids(runs: Sequence[FinishedRun], condition: pc.Expression) -> pa.StringArray:
    """`variant_id` of the variants of which an input fulfils the condition, each once."""
    scored = condition & pc.field("variant").is_valid()
    found: list[pa.Array] = []
    for run in runs:
        variants = np.unique(inputs(run).to_table(columns=["variant"], filter=scored).column("variant").to_numpy())
        for piece in StatisticRows(run).pieces(variants, ["variant_id"]):
            found += piece.column("variant_id").chunks
    return pc.unique(pa.chunked_array(found, pa.string()))
