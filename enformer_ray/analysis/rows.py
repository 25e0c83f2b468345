"""Rows of a finished statistic by number of the variant: from first to last, or just those that are asked for."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.errors import ConfigError
from enformer_ray.run import layout
from enformer_ray.run.manifest import Manifest
from enformer_ray.run.store import RunStore

BATCH_VALUES = 2**24
"""Numbers in memory at a time: 64 MiB of scores."""

_MOST_ROWS = 65_536
_KEPT_GROUPS = 4


class _Group(NamedTuple):
    first: int
    rows: int
    file: int
    group: int


class StatisticRows:
    """The rows of one statistic, numbered by `variant`, which are their order in the dataset.

    Args:
        store: the run directory.
        manifest: of the finished dataset.
        statistic: one of its statistics.

    Raises:
        ConfigError: the dataset has no such statistic.
    """

    def __init__(self, store: RunStore, manifest: Manifest, statistic: str) -> None:
        if statistic not in manifest.statistics:
            raise ConfigError(
                f"{store.uri} has no statistic {statistic!r}; it has {', '.join(manifest.statistics)}. --statistic "
                "names one of these."
            )
        self._files = manifest.under(f"{layout.SCORES}/{statistic}")
        source = store.source([f.path for f in self._files], {f.path: f.bytes for f in manifest.files})
        self._filesystem: pafs.FileSystem = source.filesystem
        self._paths = source.paths
        rows = [file.rows or 0 for file in self._files]
        self._firsts = [0, *itertools.accumulate(rows)]
        self._groups: dict[int, list[_Group]] = {}
        self._kept: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()
        self.rows = sum(rows)

    def chromosomes(self) -> dict[str, tuple[int, int]]:
        """Number of the first variant and one behind the last of each chromosome, in order."""
        spans: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(self._files):
            name = layout.scored_chromosome(file.path)
            spans[name] = (spans.get(name, (self._firsts[number],))[0], self._firsts[number + 1])
        return spans

    def batches(self, columns: Sequence[str], chromosome: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few columns of them, a batch at a time.

        Args:
            columns: names, in the order of the batches.
            chromosome: only its rows.
        """
        start, end = (0, self.rows) if chromosome is None else self.chromosomes()[chromosome]
        size = batch_rows(len(columns))
        for number, path in enumerate(self._paths):
            if start <= self._firsts[number] < end:
                with pq.ParquetFile(path, filesystem=self._filesystem) as file:
                    for batch in file.iter_batches(batch_size=size, columns=list(columns)):
                        yield batch.select(list(columns))

    def take(self, variants: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Rows of the variants, in their order; null where the number is negative.

        Fast for numbers that rise, more or less: what lies between the first and the last is read.

        Args:
            variants: numbers of variants.
            columns: names.
        """
        order = np.argsort(variants, kind="stable")
        ordered = variants[order]
        missing = int(np.searchsorted(ordered, 0))
        pieces: list[pa.Table] = []
        at = missing
        while at < len(ordered):
            group = self._group_of(int(ordered[at]))
            end = int(np.searchsorted(ordered, group.first + group.rows))
            table = self._read(group, tuple(columns))
            pieces.append(table.take(pa.array(ordered[at:end] - group.first)))
            at = end
        back = np.full(len(variants), -1, np.int64)
        back[order[missing:]] = np.arange(len(variants) - missing)
        found = pa.concat_tables(pieces) if pieces else self._empty(columns)
        return found.take(pa.array(back, mask=back < 0))

    def _group_of(self, variant: int) -> _Group:
        number = int(np.searchsorted(self._firsts, variant, side="right")) - 1
        if number not in self._groups:
            with pq.ParquetFile(self._paths[number], filesystem=self._filesystem) as file:
                rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            firsts = itertools.accumulate(rows, initial=self._firsts[number])
            self._groups[number] = [_Group(f, r, number, i) for i, (f, r) in enumerate(zip(firsts, rows, strict=False))]
        return next(group for group in self._groups[number] if variant < group.first + group.rows)

    def _read(self, group: _Group, columns: tuple[str, ...]) -> pa.Table:
        key = (group.file, group.group, columns)
        if key not in self._kept:
            with pq.ParquetFile(self._paths[group.file], filesystem=self._filesystem) as file:
                self._kept[key] = file.read_row_group(group.group, columns=list(columns)).select(list(columns))
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (
            len(self._kept) > _KEPT_GROUPS
            or sum(t.num_rows * t.num_columns for t in self._kept.values()) > BATCH_VALUES
        ):
            self._kept.popitem(last=False)
        return self._kept[key]

    def _empty(self, columns: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(self._paths[0], filesystem=self._filesystem) as file:
            schema = file.schema_arrow
        return pa.schema([schema.field(name) for name in columns]).empty_table()


def batch_rows(columns: int) -> int:
    """Rows of so many columns that are handled at a time."""
    return max(1, min(_MOST_ROWS, BATCH_VALUES // max(1, columns)))
