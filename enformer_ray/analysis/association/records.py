"""Records of a study, or of a run's own inputs, joined with the variants of the run, one chromosome after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import pyarrow as pa

from enformer_ray.analysis.options import SumstatsOptions
from enformer_ray.catalogue.build import build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import AnalysisError
from enformer_ray.genome.reference import ReferenceGenome, read_contig_aliases
from enformer_ray.planning.plan import Plan
from enformer_ray.readers.schema import ADDED_COLUMNS
from enformer_ray.readers.table_use import TableUse
from enformer_ray.rundir import layout

_MEMORY = "1GB"
_WINDOW = 1024  # any width: unknown bases are counted in the windows of the run
_STUDY_COLUMNS = (
    "effect_allele",
    "other_allele",
    "beta",
    "standard_error",
    "p_value",
    "neg_log_10_p_value",
    "effect_allele_frequency",
    "pip",
    "credible_set",
)

_QUERY = f"""
    SELECT v.variant, v.variant_id, v.position, v.reference_allele, v.alternate_allele, v.unknown_bases,
           {", ".join(f"i.{name}" for name in _STUDY_COLUMNS)}{{added}}
    FROM inputs i {{catalogue}} JOIN variants v ON {{on}}
    ORDER BY v.variant, i.input"""

_OWN_INPUTS = {"catalogue": "", "on": "v.variant = i.variant"}
_OTHER_FILES = {
    "catalogue": "JOIN catalogue c ON c.variant = i.variant",
    "on": "v.variant_id = c.variant_id",
}


class ChromosomeRecords(NamedTuple):
    """Records of scored variants of one chromosome.

    Attributes:
        chromosome: name.
        first: `variant` of the first variant of the chromosome.
        variants: variants of the run on it.
        records: `variant`, `variant_id`, position, alleles and unknown bases of the run, and study columns; by
            `variant`, then in the order of reading.
    """

    chromosome: str
    first: int
    variants: int
    records: pa.Table


def study_records(
    plan: Plan, sumstats: SumstatsOptions, dropped: Counter[str], tables: list[TableUse]
) -> Iterator[ChromosomeRecords]:
    """Join the records of a study, or of the run's own inputs, with the variants of a run.

    Records of no variant of the run are counted in `dropped` by reason; what is read of the files goes to `tables`.
    """
    with (
        _inputs(plan, sumstats, tables) as (inputs, catalogue),
        duckdb.connect(config={"memory_limit": _MEMORY}) as database,
    ):
        _count_rejected(database, [str(path) for path in inputs.values()], dropped)
        first = 0
        for chromosome, count in plan.document.variants.items():
            if chromosome in inputs and (catalogue is None or chromosome in catalogue):
                paths = {
                    "inputs": inputs[chromosome],
                    "variants": plan.file(layout.plan_variants(chromosome)),
                }
                if catalogue is not None:
                    paths["catalogue"] = catalogue[chromosome]
                records = _joined(database, paths)
                yield ChromosomeRecords(chromosome, first, count, records)
            first += count


def _joined(database: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> pa.Table:
    for name, path in tables.items():
        database.read_parquet(str(path), hive_partitioning=False).create_view(name, replace=True)
    added = "".join(f", i.{name}" for name in sorted(ADDED_COLUMNS) if name in database.view("inputs").columns)
    where = _OTHER_FILES if "catalogue" in tables else _OWN_INPUTS
    return database.sql(_QUERY.format(added=added, **where)).to_arrow_table()


def _count_rejected(database: duckdb.DuckDBPyConnection, paths: list[str], dropped: Counter[str]) -> None:
    """Count rejected records by reason, others as `not_in_run`, from which `read_study` subtracts those it finds."""
    rows = database.read_parquet(paths, hive_partitioning=False).aggregate("reason, variant IS NULL, count(*)")
    for reason, rejected, count in rows.fetchall():
        dropped[str(reason) if rejected else "not_in_run"] += count


@contextmanager
def _inputs(
    plan: Plan, sumstats: SumstatsOptions, tables: list[TableUse]
) -> Iterator[tuple[dict[str, Path], dict[str, Path] | None]]:
    """Input records by chromosome, and the catalogue of their variants (None: the run's own variants)."""
    if not sumstats.files:
        store = plan.store
        tables += plan.document.tables
        yield {name: store.local_path(layout.variants(name)) for name in plan.document.inputs}, None
        return
    with TemporaryDirectory(prefix="enformer-ray-associate-") as folder:
        config = _catalogue_config(plan.document.config.catalogue, sumstats)
        reference = _reference(plan, sumstats, config)
        catalogue = build_catalogue(sumstats.files, reference, config, _WINDOW, "binned", Path(folder))
        tables += catalogue.tables
        yield catalogue.inputs, catalogue.variants


def _catalogue_config(run: CatalogueConfig, sumstats: SumstatsOptions) -> CatalogueConfig:
    """The run's options of reading, with those that describe the files taken from `sumstats`."""
    return run.model_copy(
        update={
            "format": sumstats.format,
            "study": sumstats.study,
            "trait": sumstats.trait,
            "columns": dict(sumstats.columns or {}),
            "chain": sumstats.chain,
            "max_unknown": None,
        }
    )


def _reference(plan: Plan, sumstats: SumstatsOptions, config: CatalogueConfig) -> ReferenceGenome:
    path = sumstats.reference or plan.document.config.reference
    if not path.exists():
        raise AnalysisError(
            f"the reference FASTA {path}, against which summary statistics are harmonised, is not there. --reference "
            f"names where the FASTA of {plan.store.uri} is now."
        )
    aliases = config.contig_aliases
    genome = ReferenceGenome(path, read_contig_aliases(aliases) if aliases else None)
    for name, digests in plan.reference_digests().items():
        genome.expect(name, digests)
    return genome
