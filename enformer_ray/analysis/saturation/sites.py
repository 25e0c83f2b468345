"""Bases of a dataset of which all three substitutions were scored, read in genome order a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.dataset.dataset import ScoreDataset

BASES = "ACGT"
_BATCH_VALUES = 2**22  # 32 MiB of float64


@dataclass(frozen=True)
class Sites:
    """Consecutive saturated bases of one chromosome.

    Attributes:
        chromosome: canonical name.
        position: (n,), 1-based, ascending.
        reference: (n,), place of the reference base in `BASES`.
        scores: (n, 4, tracks) float64: of the substitution by each of `BASES`, 0 for the reference base; NaN where a
            variant failed.
    """

    chromosome: str
    position: NDArray[np.int64]
    reference: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass
class SiteReader:
    """Reads `Sites`.

    Attributes:
        dataset: scores; its tracks are read.
        statistic: name of a statistic.
        incomplete: bases met so far that have one or two substitutions alone; these are left out.
    """

    dataset: ScoreDataset
    statistic: str
    incomplete: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Sites]:
        """All of them, in the order of the dataset."""
        self.dataset.manifest.refuse_genes(self.dataset.uri)
        columns = self.dataset.track_table.column("column").to_pylist()
        kept: pa.Table | None = None
        for batch in self.dataset.to_batches(self.statistic, rows=max(64, _BATCH_VALUES // len(columns))):
            table = _substitutions(batch)
            table = table if kept is None else pa.concat_tables([kept, table])
            if not table.num_rows:
                continue
            groups = _groups(table)
            whole = int(groups[-1])  # the last base may go on in the next batch
            yield from self._sites(table.slice(0, whole), groups[:-1], columns)
            kept = table.slice(whole)
        if kept is not None and kept.num_rows:
            yield from self._sites(kept, _groups(kept), columns)

    def _sites(self, table: pa.Table, starts: NDArray[np.int64], columns: Sequence[str]) -> Iterator[Sites]:
        sizes = np.diff(starts, append=table.num_rows)
        self.incomplete += int(np.count_nonzero(sizes != len(BASES) - 1))
        first = starts[sizes == len(BASES) - 1]
        if not len(first):
            return
        rows = first[:, None] + np.arange(len(BASES) - 1)
        values = np.stack([table.column(name).to_numpy() for name in columns], axis=1).astype(np.float64)
        reference, alternate = (_codes(table, name) for name in ("reference_allele", "alternate_allele"))
        scores = np.zeros((len(first), len(BASES), len(columns)))
        scores[np.arange(len(first))[:, None], alternate[rows]] = values[rows]
        position = table.column("position").to_numpy().astype(np.int64)[first]
        names = table.column("chromosome").combine_chunks().take(pa.array(first)).to_numpy(zero_copy_only=False)
        borders = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        for start, end in pairwise(borders):
            part = slice(start, end)
            yield Sites(str(names[start]), position[part], reference[first][part], scores[part])


def _substitutions(batch: pa.RecordBatch) -> pa.Table:
    single = [pc.is_in(batch.column(name), pa.array(list(BASES))) for name in ("reference_allele", "alternate_allele")]
    return pa.Table.from_batches([batch]).filter(pc.and_(*single))


def _groups(table: pa.Table) -> NDArray[np.int64]:
    """First rows of bases; variants of one base follow one another."""
    position = table.column("position").to_numpy()
    names = pc.dictionary_encode(table.column("chromosome").combine_chunks())
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    chromosome = names.indices.to_numpy()
    new = (np.diff(position, prepend=-1) != 0) | (np.diff(chromosome, prepend=-1) != 0)
    return np.flatnonzero(new)


def _codes(table: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.index_in(table.column(name), pa.array(list(BASES))).to_numpy().astype(np.int64)
    return found
