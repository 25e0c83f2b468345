"""The variants of a plan by number, and the random sample of them that is audited by direct passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import GeneVariant, Variant
from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.definitions import Statistic
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.planning.files import damaged_plan
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.shards import Part
from enformer_ray.readers.row_groups import NumberedRows
from enformer_ray.rundir import layout
from enformer_ray.scoring.tables import KEY_COLUMNS

MAX_SHARE = 0.01
"""Largest share of the variants that is audited."""

_GENE_ARGUMENTS = (*KEY_COLUMNS[1:], "gene_id", "gene_name", "gene_strand", "tss_position")


class PlannedVariants:
    """Planned variants by their number, from a file for each chromosome. Not thread-safe.

    Numbers count the variants that are scored: with previous runs, these are others than in the dataset.

    Args:
        plan: the plan.
        every: read all planned variants instead, by their number in the dataset.

    Attributes:
        keys: columns that identify a row.
    """

    def __init__(self, plan: Plan, every: bool = False) -> None:
        self._plan, self._path = plan, layout.plan_variants if every else plan.document.scored_file
        self.keys = plan.document.key_columns
        counts = plan.document.variants if every else plan.document.to_score_by_chromosome
        self._chromosomes = list(counts)
        self._rows = NumberedRows(counts.values(), self._open)

    def table(self, chromosome: str, first_variant: int, rows: int, columns: Sequence[str] = KEY_COLUMNS) -> pa.Table:
        """Columns of consecutive variants (`first_variant`, a number) of a chromosome (without `chr`), in order.

        Raises:
            DatasetCorruptError: the file does not hold them.
        """
        groups = self._rows.groups(self._chromosomes.index(chromosome))
        if not groups or first_variant < groups[0].first or first_variant + rows > groups[-1].first + groups[-1].rows:
            raise self._changed(chromosome, f"has no variants {first_variant} to {first_variant + rows - 1}")
        table = self._rows.consecutive(first_variant, rows, tuple(dict.fromkeys([*columns, "variant"])))
        if rows and table.column("variant")[0].as_py() != first_variant:
            raise self._changed(chromosome, f"has variant {table.column('variant')[0]} where {first_variant} belongs")
        return table.select(list(columns))

    def variants(self, part: Part) -> list[Variant]:
        """Variants of a part of a shard, in order; in a plan with genes each at its transcription start."""
        names, kind = (KEY_COLUMNS[1:], Variant) if self.keys == KEY_COLUMNS else (_GENE_ARGUMENTS, GeneVariant)
        table = self.table(part.shard.chromosome, part.first_variant, part.rows, names)
        return [kind(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]

    def _open(self, file: int) -> pq.ParquetFile:
        return pq.ParquetFile(self._plan.file(self._path(self._chromosomes[file])))

    def _changed(self, chromosome: str, what: str) -> DatasetCorruptError:
        return damaged_plan(self._plan.store, self._path(chromosome), what)


def audit_size(config: JobConfig, planned: int) -> int:
    """Number of variants that are audited, of those that are scored."""
    return min(config.audit, math.ceil(MAX_SHARE * planned))


def audited_variants(plan: Plan) -> NDArray[np.int64]:
    """Numbers (`variant`) of the audited variants, ascending: a sample that the fingerprint seeds."""
    planned = plan.document.to_score
    size = audit_size(plan.document.config, planned)
    random = np.random.default_rng(int(plan.document.fingerprint[:16], 16))
    return np.sort(random.choice(planned, size=size, replace=False))


def audited_in(sample: NDArray[np.int64], first_variant: int, rows: int) -> list[int]:
    """Which of `rows` consecutive variants are in a sample, counted from `first_variant`."""
    first, last = np.searchsorted(sample, [first_variant, first_variant + rows])
    return [int(variant) - first_variant for variant in sample[first:last]]


def direct_options(scoring: ScoringConfig) -> ScoringConfig:
    """Options of the direct passes: float32, and the statistics of `with_sums`."""
    return scoring.model_copy(update={"precision": "float32", "statistics": with_sums(scoring.statistics)})


def with_sums(statistics: Sequence[Statistic]) -> tuple[Statistic, ...]:
    """Statistics of the direct passes: those of the run, and the sums of both alleles, to which bounds are relative."""
    return tuple(dict.fromkeys((*statistics, "ref", "alt")))
