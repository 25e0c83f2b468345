"""Records of a study beside the variants that a run has scored, a chromosome at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import pyarrow as pa

from enformer_ray.analysis.association.options import SumstatsOptions
from enformer_ray.catalogue.catalogue import build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import AssociationError
from enformer_ray.genome.aliases import read_contig_aliases
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.plan.plan import Plan
from enformer_ray.rundir import layout

_MEMORY = "1GB"
_WINDOW = 1024  # of no consequence: unknown bases are those of the run's own windows

_STUDY = "effect_allele, other_allele, beta, standard_error, p_value, neg_log_10_p_value, effect_allele_frequency, pip"
_QUERY = f"""
    SELECT v.variant, v.variant_id, v.position, v.reference_allele, v.alternate_allele, v.unknown_bases,
           {", ".join(f"i.{name}" for name in _STUDY.split(", "))}, i.credible_set
    FROM inputs i {{catalogue}} JOIN variants v ON {{on}}
    ORDER BY v.variant, i.input"""
_OWN = {"catalogue": "", "on": "v.variant = i.variant"}
_OTHER = {
    "catalogue": "JOIN catalogue c ON c.variant = i.variant",
    "on": "v.variant_id = c.variant_id",
}


class ChromosomeRecords(NamedTuple):
    """Records of one chromosome that are of scored variants.

    Attributes:
        chromosome: its name.
        first: `variant` of the first variant of the chromosome.
        variants: variants of the run on it.
        records: `variant`, `variant_id`, position, alleles and unknown bases of the run, and study columns; by
            `variant`, then in the order of reading.
    """

    chromosome: str
    first: int
    variants: int
    records: pa.Table


def study_records(plan: Plan, sumstats: SumstatsOptions, dropped: Counter[str]) -> Iterator[ChromosomeRecords]:
    """Join the records of a study with the variants of a run.

    Args:
        plan: of the finished run.
        sumstats: the files; without any the run's own inputs.
        dropped: counts, by reason, the records that are of no variant of the run.

    Raises:
        AssociationError: the reference is not where the plan says.
        EnformerRayError: what reading the files raises.
    """
    with _inputs(plan, sumstats) as (inputs, catalogue), duckdb.connect(config={"memory_limit": _MEMORY}) as database:
        _count_rejected(database, [str(path) for path in inputs.values()], dropped)
        first = 0
        for chromosome, count in plan.document.variants.items():
            if chromosome in inputs and (catalogue is None or chromosome in catalogue):
                tables = {
                    "inputs": inputs[chromosome],
                    "variants": plan.store.local_path(layout.plan_variants(chromosome)),
                }
                if catalogue is not None:
                    tables["catalogue"] = catalogue[chromosome]
                records = _joined(database, tables)
                yield ChromosomeRecords(chromosome, first, count, records)
            first += count


def _joined(database: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> pa.Table:
    for name, path in tables.items():
        database.read_parquet(str(path), hive_partitioning=False).create_view(name, replace=True)
    return database.sql(_QUERY.format(**(_OTHER if "catalogue" in tables else _OWN))).to_arrow_table()


def _count_rejected(database: duckdb.DuckDBPyConnection, paths: list[str], dropped: Counter[str]) -> None:
    """Count records that stand for no variant, and (as `not_in_run`, less those that are found later) all others."""
    rows = database.read_parquet(paths, hive_partitioning=False).aggregate("reason, variant IS NULL, count(*)")
    for reason, rejected, count in rows.fetchall():
        dropped[str(reason) if rejected else "not_in_run"] += count


@contextmanager
def _inputs(plan: Plan, sumstats: SumstatsOptions) -> Iterator[tuple[dict[str, Path], dict[str, Path] | None]]:
    """Input records by chromosome, and the variants that they are of unless those are the run's."""
    if not sumstats.files:
        store = plan.store
        yield {name: store.local_path(layout.variants(name)) for name in plan.document.inputs}, None
        return
    with TemporaryDirectory(prefix="enformer-ray-associate-") as folder:
        config = _catalogue_config(plan.document.config.catalogue, sumstats)
        reference = _reference(plan, sumstats, config)
        catalogue = build_catalogue(sumstats.files, reference, config, _WINDOW, "binned", Path(folder))
        yield catalogue.inputs, catalogue.variants


def _catalogue_config(run: CatalogueConfig, sumstats: SumstatsOptions) -> CatalogueConfig:
    """How files are read: as the run's, but for what belongs to the run's own files."""
    return run.model_copy(
        update={
            "format": sumstats.format,
            "study": sumstats.study,
            "columns": dict(sumstats.columns or {}),
            "chain": sumstats.chain,
            "max_unknown": None,
        }
    )


def _reference(plan: Plan, sumstats: SumstatsOptions, config: CatalogueConfig) -> ReferenceGenome:
    path = sumstats.reference or plan.document.config.reference
    if not path.exists():
        raise AssociationError(
            f"the reference FASTA {path}, against which summary statistics are harmonised, is not there. --reference "
            f"names where the FASTA of {plan.store.uri} is now."
        )
    aliases = config.contig_aliases
    genome = ReferenceGenome(path, read_contig_aliases(aliases) if aliases else None)
    for name, digests in plan.reference_digests().items():
        genome.expect(name, digests)
    return genome
