"""Columns of an annotation beside the tracks themselves: all ones, quantile bins; and the moments of each column."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.exports.text import header, lines

BASE = "base"
"""Column of ones, for the variance that SNPs have on average; called as in LDSC's baseline model."""

Parts = Iterable[tuple[str, Iterator[pa.RecordBatch]]]
"""Chromosome and batches of its SNPs."""


def with_base(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with a column of ones."""
    return batch.append_column(BASE, pa.array(np.ones(len(batch), np.int8)))


class Moments:
    """Mean and standard deviation of columns, over all batches: that of numpy.std, with n in the denominator.

    Batches are joined by the formula of T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for Computing the Sample
    Variance", The American Statistician 37:242-247 (1983).

    Args:
        columns: their names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self.rows = 0
        self._mean, self._squares = np.zeros(len(columns)), np.zeros(len(columns))

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch without nulls into account."""
        count = len(batch)
        if not count:
            return
        total = self.rows + count
        for place, name in enumerate(self.columns):
            values = batch.column(name).to_numpy().astype(np.float64)
            mean = values.mean()
            apart = mean - self._mean[place]
            self._squares[place] += ((values - mean) ** 2).sum() + apart**2 * self.rows * count / total
            self._mean[place] += apart * count / total
        self.rows = total

    @property
    def standard_deviations(self) -> NDArray[np.float64]:
        """Of each column."""
        found: NDArray[np.float64] = np.sqrt(self._squares / max(1, self.rows))
        return found

    def table(self) -> bytes:
        """Lines `column`, `snps`, `mean`, `sd`, separated by tabs."""
        names = ("column", "snps", "mean", "sd")
        numbers = (np.full(len(self.columns), self.rows), self._mean, self.standard_deviations)
        return header(names) + lines([pa.array(self.columns), *map(pa.array, numbers)], missing="NA")


class QuantileBins:
    """Columns that say in which quantile bin of a track a SNP is; the lowest bin, which `base` stands for, has none.

    Bin k of N holds the SNPs with a value above the quantile (k - 1) / N of all SNPs, and not above that of k / N; they
    are those of numpy.quantile. SNPs with equal values are in the same bin, so bins may differ in size, or be empty.

    Args:
        columns: of the tracks.
        bins: N.
        folder: for a temporary file: the annotation is read a second time, once its quantiles are known.

    Attributes:
        names: of the columns of bins: `track_0005_q2` to `track_0005_qN`.
        empty: of those that hold no SNP.
    """

    def __init__(self, columns: Sequence[str], bins: int, folder: Path) -> None:
        self._columns, self._bins, self._spool = list(columns), bins, folder / "annotation.parquet"
        self.names = [f"{column}_q{bin_}" for column in columns for bin_ in range(2, bins + 1)]
        self.empty: list[str] = []

    def of(self, parts: Parts) -> Generator[tuple[str, Iterator[pa.RecordBatch]]]:
        """The parts with columns of bins in the place of the tracks."""
        chromosomes = self._write(parts)
        if not chromosomes:
            return
        edges = {column: self._edges(column) for column in self._columns}
        held = dict.fromkeys(self.names, 0)
        with pq.ParquetFile(self._spool) as file:
            groups = iter(range(file.num_row_groups))
            for chromosome, count in chromosomes:
                yield chromosome, self._binned(file, list(itertools.islice(groups, count)), edges, held)
        self.empty = [name for name, count in held.items() if not count]

    def _write(self, parts: Parts) -> list[tuple[str, int]]:
        """Write all batches, a row group each; chromosomes with their numbers of row groups."""
        chromosomes = []
        writer: pq.ParquetWriter | None = None
        try:
            for chromosome, batches in parts:
                count = 0
                for batch in batches:
                    writer = writer or pq.ParquetWriter(self._spool, batch.schema, compression="zstd")
                    writer.write_batch(batch, row_group_size=max(1, len(batch)))
                    count += 1
                chromosomes.append((chromosome, count))
        finally:
            if writer is not None:
                writer.close()
        return chromosomes

    def _edges(self, column: str) -> NDArray[np.float64]:
        values = pq.read_table(self._spool, columns=[column]).column(0).to_numpy().astype(np.float64)
        edges: NDArray[np.float64] = np.quantile(values, np.arange(1, self._bins) / self._bins)
        return edges

    def _binned(
        self, file: pq.ParquetFile, groups: list[int], edges: dict[str, NDArray[np.float64]], held: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        for group in groups:
            table = file.read_row_group(group).combine_chunks()
            kept = [name for name in table.column_names if name not in edges]
            columns = [table.column(name).combine_chunks() for name in kept]
            for column, bounds in edges.items():
                values = table.column(column).to_numpy().astype(np.float64)
                bins = pa.array(np.digitize(values, bounds, right=True) + 1)
                columns += [pc.equal(bins, bin_).cast(pa.int8()) for bin_ in range(2, self._bins + 1)]
            for name, found in zip(self.names, columns[len(kept) :], strict=True):
                held[name] += pc.sum(found).as_py() or 0
            yield pa.record_batch(columns, names=[*kept, *self.names])
