"""What the input records of a finished run say of its variants: p-values and names, a chromosome at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.rundir import layout

_LOG_P = "neg_log_10_p_value"
_BATCH_ROWS = 131_072


class InputRecords:
    """P-values and names in the input records of a finished run, by number of variant, a chromosome at a time.

    Args:
        run: the finished run.
        variants: rows of each chromosome, in the order of `variant`, as the plan has them.
        first_rows: for gene scores, whose rows are pairs of a variant and a start: for each row of a chromosome the
            number that input records have for its variant.

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
        self.has_p = any(
            batch.column(_LOG_P).null_count < len(batch) for name in variants for batch in self._batches(name, _LOG_P)
        )

    def minus_log10_p(self, chromosome: str, first_variant: int, rows: int) -> NDArray[np.float64]:
        """-log10 p of consecutive variants: the smallest p of several records of a variant, NaN without one."""
        if self._loaded[0] != chromosome:
            self._loaded = chromosome, self._read_p(chromosome)
        start = first_variant - self._first[chromosome]
        return self._loaded[1][start : start + rows]

    def source_ids(self, variants: NDArray[np.int64]) -> dict[int, str]:
        """Names that the input files give to some variants (sorted numbers); of several records the first one."""
        found: dict[int, str] = {}
        for chromosome, first in self._first.items():
            rows = variants[slice(*np.searchsorted(variants, [first, first + self._count[chromosome]]))]
            if not len(rows):
                continue
            numbers = rows if self._first_rows is None else self._first_rows(chromosome)[rows - first]
            names: dict[int, str] = {}
            for batch in self._batches(chromosome, "source_id"):
                named = batch.filter(pc.is_valid(batch.column("source_id")))
                hit = np.isin(named.column("variant").to_numpy(), numbers)
                for record in named.filter(pa.array(hit)).to_pylist():
                    names.setdefault(record["variant"], record["source_id"])
            pairs = zip(rows.tolist(), numbers.tolist(), strict=True)
            found |= {row: names[number] for row, number in pairs if number in names}
        return found

    def _read_p(self, chromosome: str) -> NDArray[np.float64]:
        values = np.full(self._count[chromosome], np.nan)
        for batch in self._batches(chromosome, _LOG_P):
            kept = batch.filter(pc.is_valid(batch.column(_LOG_P)))
            rows = kept.column("variant").to_numpy() - self._first[chromosome]
            np.fmax.at(values, rows, kept.column(_LOG_P).to_numpy())
        if self._first_rows is not None:
            values = values[self._first_rows(chromosome) - self._first[chromosome]]
        return values

    def _batches(self, chromosome: str, column: str) -> Iterator[pa.RecordBatch]:
        """`variant` and a column of the records that have a variant."""
        with self._run.open(layout.variants(chromosome)) as parquet:
            if column in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["variant", column]):
                    yield batch.filter(pc.is_valid(batch.column("variant")))
