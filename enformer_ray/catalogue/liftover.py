"""Liftover: records moved from the assembly of their file to that of the FASTA, by a chain file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.allele_match import reverse_complement
from enformer_ray.catalogue.chain import OUTCOMES, Chain, Integers, Lift
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import read_contig_aliases

LIFT_SCHEMA = pa.schema(
    {
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "lifted": pa.string(),
        "block": pa.int64(),
        "reason": pa.string(),
    }
)
"""Columns that `lift_batch` adds or replaces.

    original_*: what the file had, of lifted records; null where the record's own columns still hold it. Where the
        reference allele is not known, the other and the effect allele.
    lifted: `forward` or `reverse`, the strand of the new assembly; null where the record was not lifted.
    block: number of the chain file's block (`Chain.surroundings`) that holds a lifted record.
    reason: key of `normalise.REASONS` of a record that cannot be lifted.
"""

_ALLELES = ("reference_allele", "alternate_allele", "effect_allele", "other_allele")


def chain_of(path: Path, config: CatalogueConfig) -> Chain | None:
    """The chain file that lifts a variant file by `catalogue.chain`; None for a file that is not lifted.

    The setting is one chain file for all variant files, or a mapping from patterns, of which the first that matches
    counts. A pattern is a path or the end of one (`old.vcf.gz`, `old/*.vcf.gz`). A process reads a chain file once.

    Raises:
        InputFileError: the chain file cannot be read.
    """
    file = next((chain for pattern, chain in _by_pattern(config).items() if path.match(pattern)), None)
    if file is None:
        return None
    state = file.stat() if file.exists() else None
    return _read(file, config.contig_aliases, state and (state.st_mtime_ns, state.st_size))


def check_chain_patterns(paths: Sequence[Path], config: CatalogueConfig) -> None:
    """Raise ConfigError for a pattern of `catalogue.chain` that matches no variant file, so that it lifts nothing."""
    for pattern in _by_pattern(config):
        if not any(path.match(pattern) for path in paths):
            raise ConfigError(
                f"catalogue.chain: {pattern!r} fits none of the variant files ({', '.join(map(str, paths[:5]))}"
                f"{', ...' if len(paths) > 5 else ''}). Give a path or the end of one, such as old.vcf.gz or *.bcf."
            )


def _by_pattern(config: CatalogueConfig) -> Mapping[str, Path]:
    return config.chain if isinstance(config.chain, Mapping) else {"*": config.chain} if config.chain else {}


@lru_cache(maxsize=4)
def _read(path: Path, aliases: Path | None, state: tuple[int, int] | None) -> Chain:  # noqa: ARG001 (a changed file is read anew)
    return Chain(path, read_contig_aliases(aliases) if aliases else None)


def lift_batch(batch: pa.RecordBatch, chain: Chain) -> pa.RecordBatch:
    """Lift records; row for row, in the same order.

    A record that cannot be lifted keeps its coordinates and gets a reason. One with a `problem`, or with a reason
    already, stays as it is.

    Args:
        batch: `RECORD_SCHEMA`, with or without the columns of `LIFT_SCHEMA`; further columns are kept.
        chain: from the assembly of the file to that of the FASTA.

    Returns:
        The batch with chromosome, position and alleles (all four) of the new assembly, and the columns of
        `LIFT_SCHEMA`.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for field in LIFT_SCHEMA:
        columns.setdefault(field.name, pa.nulls(len(batch), field.type))
    usable = pc.and_(
        pc.and_(columns["problem"].is_null(), columns["reason"].is_null()),
        pc.and_(columns["chromosome"].is_valid(), columns["position"].is_valid()),
    ).to_numpy(zero_copy_only=False)
    length, unclear = _spans(columns)
    contig = contigs_of(columns["chromosome"], chain)
    start = columns["position"].fill_null(1).to_numpy() - 1
    lift = chain.lift(contig, start, length)
    lift.outcome[(lift.outcome == 0) & lift.reverse & unclear] = OUTCOMES.index("indel_on_reverse_strand")
    done = usable & (lift.outcome == 0)
    reasons = pa.array(OUTCOMES, pa.string()).take(pa.array(lift.outcome[usable]))
    columns["reason"] = replaced(columns["reason"], usable, reasons)
    if done.any():
        _move(columns, lift, done, chain)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _move(columns: dict[str, pa.Array], lift: Lift, done: NDArray[np.bool_], chain: Chain) -> None:
    """Give the records of `done` their new coordinates, and what the file had to the original_* columns."""
    known = columns["reference_allele"].is_valid()
    originals = (
        columns["chromosome"],
        columns["position"],
        pc.if_else(known, columns["reference_allele"], columns["other_allele"]),
        pc.if_else(known, columns["alternate_allele"], columns["effect_allele"]),
    )
    for name, original in zip(LIFT_SCHEMA.names, originals, strict=False):
        # A record that was changed already keeps what the file had.
        kept = pc.coalesce(columns[name], original)
        columns[name] = replaced(columns[name], done, kept.filter(pa.array(done)))
    contigs = pa.array(chain.targets, pa.string()).take(pa.array(lift.target[done]))
    columns["chromosome"] = replaced(columns["chromosome"], done, contigs)
    columns["position"] = replaced(columns["position"], done, pa.array(lift.start[done] + 1))
    strand = pa.array(["forward", "reverse"]).take(pa.array(lift.reverse[done].astype(np.int8)))
    columns["lifted"] = replaced(columns["lifted"], done, strand)
    columns["block"] = replaced(columns["block"], done, pa.array(lift.block[done]))
    reversed_rows = done & lift.reverse
    if reversed_rows.any():
        for name in _ALLELES:
            complements = _reverse_complements(columns[name].filter(pa.array(reversed_rows)))
            columns[name] = replaced(columns[name], reversed_rows, complements)


def _spans(columns: dict[str, pa.Array]) -> tuple[Integers, NDArray[np.bool_]]:
    """Bases that each record spans, and whether that is unclear for want of a reference allele.

    Where it is not known which allele is the reference, the longer one must be lifted whole.
    """
    reference, effect, other = (
        pc.utf8_length(columns[name]).fill_null(0).to_numpy().astype(np.int64)
        for name in ("reference_allele", "effect_allele", "other_allele")
    )
    known = columns["reference_allele"].is_valid().to_numpy(zero_copy_only=False)
    length = np.maximum(1, np.where(known, reference, np.maximum(effect, other)))
    return length, ~known & (effect != other) & (effect > 0) & (other > 0)


def contigs_of(chromosome: pa.Array, chain: Chain) -> Integers:
    """Numbers (`Chain.contig`) of the contigs of records."""
    encoded = chromosome.dictionary_encode()
    numbers = np.array([chain.contig(name) for name in encoded.dictionary.to_pylist()] or [-1], dtype=np.int64)
    contigs: Integers = numbers[encoded.indices.fill_null(0).to_numpy()]
    return contigs


def replaced(column: pa.Array, where: NDArray[np.bool_], values: pa.Array) -> pa.Array:
    """A column with other values in some of its rows."""
    return pc.replace_with_mask(column, pa.array(where), values.cast(column.type))


def _reverse_complements(alleles: pa.Array) -> pa.Array:
    """Alleles reverse-complemented; what is no sequence (`<DEL>`, `*`, `.`) as it is."""
    encoded = alleles.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    complements = [text if text.strip("ACGTNacgtn") else reverse_complement(text) for text in texts]
    return pa.array(complements, pa.string()).take(encoded.indices)
