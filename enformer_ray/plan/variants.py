"""Reading the variants that a plan scores by number, without reading the rest of their chromosome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import GeneVariant, Variant
from enformer_ray.config import JobConfig, ScoringConfig, Statistic
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.shards import Part
from enformer_ray.rundir import layout
from enformer_ray.scoring.tables import KEY_COLUMNS

_GENE_ARGUMENTS = (*KEY_COLUMNS[1:], "gene_id", "gene_name", "gene_strand", "tss_position")


class PlannedVariants:
    """The files of the variants that are scored, one of them open at a time. Not thread-safe.

    Their numbers count what is scored: with earlier runs, others than in the dataset.

    Args:
        plan: the plan.
        every: read all planned variants instead, by their numbers in the dataset.

    Attributes:
        keys: columns that tell a row from all others.
    """

    def __init__(self, plan: Plan, every: bool = False) -> None:
        self._store, self._path = plan.store, layout.plan_variants if every else plan.document.scored_file
        self.keys = plan.document.key_columns
        counts = plan.document.variants if every else plan.document.to_score_by_chromosome
        self._first = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))
        self._chromosome: str | None = None
        self._file: pq.ParquetFile
        self._starts = np.zeros(1, dtype=np.int64)
        self._held: pa.Table
        self._held_of: tuple[int, int, tuple[str, ...]] | None = None

    def table(self, chromosome: str, first_variant: int, rows: int, columns: Sequence[str] = KEY_COLUMNS) -> pa.Table:
        """Rows of consecutive variants of one chromosome.

        Args:
            chromosome: contig name without `chr`.
            first_variant: `variant` of the first row.
            rows: how many.
            columns: of plan/variants.

        Raises:
            DatasetCorruptError: the file does not hold them.
        """
        if chromosome != self._chromosome:
            self._open(chromosome)
        start = first_variant - self._first[chromosome]
        if start < 0 or start + rows > self._starts[-1]:
            raise self._changed(chromosome, f"has no variants {first_variant} to {first_variant + rows - 1}")
        first_group = int(np.searchsorted(self._starts, start, side="right")) - 1
        last_group = int(np.searchsorted(self._starts, start + rows, side="left"))
        names = tuple(dict.fromkeys([*columns, "variant"]))
        wanted = (first_group, last_group, names)
        if wanted != self._held_of:
            # Small shards that follow one another lie in the same row group.
            self._held = self._file.read_row_groups(range(first_group, last_group), columns=list(names))
            self._held_of = wanted
        table = self._held.slice(start - int(self._starts[first_group]), rows)
        if rows and table.column("variant")[0].as_py() != first_variant:
            raise self._changed(chromosome, f"has variant {table.column('variant')[0]} where {first_variant} belongs")
        return table.select(list(columns))

    def variants(self, part: Part) -> list[Variant]:
        """Variants of a part of a shard, in order; in a plan with genes each at its transcription start.

        Raises:
            DatasetCorruptError: the plan's file does not hold them.
        """
        names, kind = (KEY_COLUMNS[1:], Variant) if self.keys == KEY_COLUMNS else (_GENE_ARGUMENTS, GeneVariant)
        table = self.table(part.shard.chromosome, part.first_variant, part.rows, names)
        return [kind(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]

    def _open(self, chromosome: str) -> None:
        self._file = pq.ParquetFile(self._store.local_path(self._path(chromosome)))
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._chromosome, self._held_of = chromosome, None

    def _changed(self, chromosome: str, what: str) -> DatasetCorruptError:
        return DatasetCorruptError(
            f"{self._store.uri}/{self._path(chromosome)} {what}: the plan has been changed. Delete the run "
            "directory and run again."
        )


MAX_SHARE = 0.01


def audit_size(config: JobConfig, planned: int) -> int:
    """How many of the variants that are scored are scored again."""
    return min(config.audit, math.ceil(MAX_SHARE * planned))


def audited_variants(plan: Plan) -> NDArray[np.int64]:
    """Numbers (`variant`) of the variants that are scored again, ascending: a sample that the fingerprint seeds."""
    planned = plan.document.to_score
    size = audit_size(plan.document.config, planned)
    random = np.random.default_rng(int(plan.document.fingerprint[:16], 16))
    return np.sort(random.choice(planned, size=size, replace=False))


def audited_in(sample: NDArray[np.int64], first_variant: int, rows: int) -> list[int]:
    """Which of `rows` consecutive variants are in a sample, counted from the first of them."""
    first, last = np.searchsorted(sample, [first_variant, first_variant + rows])
    return [int(variant) - first_variant for variant in sample[first:last]]


def direct_options(scoring: ScoringConfig) -> ScoringConfig:
    """Options of the plain passes: float32, and with the sums that bounds are relative to."""
    return scoring.model_copy(update={"precision": "float32", "statistics": with_sums(scoring.statistics)})


def with_sums(statistics: Sequence[Statistic]) -> tuple[Statistic, ...]:
    """Statistics of the plain passes: those of the run and the sums that bounds are relative to."""
    return tuple(dict.fromkeys((*statistics, "ref", "alt")))
