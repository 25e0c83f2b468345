"""What the study says of the scored variants: p-values, and the names that the input files give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.rundir import layout

_P = "neg_log_10_p_value"
_BATCH_ROWS = 131_072


class Study:
    """Study columns of the finished input records, by number of variant, a chromosome at a time.

    Args:
        run: the finished run.
        variants: rows of each chromosome, in the order of `variant`, as the plan has them.
        first_rows: of a chromosome's rows the numbers that input records have for their variants, where these are
            others than their own: those of gene scores.

    Attributes:
        has_p: whether any scored variant has a p-value.
    """

    def __init__(
        self,
        run: FinishedRun,
        variants: Mapping[str, int],
        first_rows: Callable[[str], NDArray[np.int64]] | None = None,
    ) -> None:
        self._run, self._first_rows = run, first_rows
        starts = np.cumsum([0, *variants.values()])
        self._first = dict(zip(variants, starts.tolist(), strict=False))
        self._count = dict(variants)
        self._loaded: tuple[str, NDArray[np.float64]] = ("", np.empty(0))
        self.has_p = any(batch.column(_P).null_count < len(batch) for c in variants for batch in self._batches(c, _P))

    def minus_log10_p(self, chromosome: str, first_variant: int, rows: int) -> NDArray[np.float64]:
        """-log10 p of consecutive variants; the smallest p where several records are of a variant, NaN without one."""
        if self._loaded[0] != chromosome:
            self._loaded = chromosome, self._all_of(chromosome)
        start = first_variant - self._first[chromosome]
        return self._loaded[1][start : start + rows]

    def source_ids(self, variants: NDArray[np.int64]) -> dict[int, str]:
        """Names that the input files give to some variants (sorted numbers); of several records the first one."""
        found: dict[int, str] = {}
        for chromosome, first in self._first.items():
            here = variants[slice(*np.searchsorted(variants, [first, first + self._count[chromosome]]))]
            if not len(here):
                continue
            wanted = here if self._first_rows is None else self._first_rows(chromosome)[here - first]
            names: dict[int, str] = {}
            for batch in self._batches(chromosome, "source_id"):
                named = batch.filter(pc.is_valid(batch.column("source_id")))
                hit = np.isin(named.column("variant").to_numpy(), wanted)
                for row in named.filter(pa.array(hit)).to_pylist():
                    names.setdefault(row["variant"], row["source_id"])
            rows = zip(here.tolist(), wanted.tolist(), strict=True)
            found |= {row: names[variant] for row, variant in rows if variant in names}
        return found

    def _all_of(self, chromosome: str) -> NDArray[np.float64]:
        values = np.full(self._count[chromosome], np.nan)
        for batch in self._batches(chromosome, _P):
            kept = batch.filter(pc.is_valid(batch.column(_P)))
            rows = kept.column("variant").to_numpy() - self._first[chromosome]
            np.fmax.at(values, rows, kept.column(_P).to_numpy())
        if self._first_rows is not None:
            values = values[self._first_rows(chromosome) - self._first[chromosome]]
        return values

    def _batches(self, chromosome: str, column: str) -> Iterator[pa.RecordBatch]:
        """`variant` and a column of the records that have a variant."""
        with self._run.open(layout.variants(chromosome)) as parquet:
            if column in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["variant", column]):
                    yield batch.filter(pc.is_valid(batch.column("variant")))
