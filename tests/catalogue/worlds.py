"""Small references and variant files for the tests of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import read_batches
from enformer_ray.readers.schema import RECORD_SCHEMA, InputRecord

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def make_reference(
    folder: Path, contigs: Mapping[str, str], aliases: Mapping[str, str] | None = None
) -> ReferenceGenome:
    path = folder / "reference.fa"
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    return ReferenceGenome(path, aliases)


def vcf_text(records: Iterable[tuple[str, int, str, str]]) -> str:
    lines = [f"{contig}\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\n" for contig, position, ref, alt in records]
    return HEADER + "".join(lines)


def record(chromosome: str, position: int, ref: str, alt: str | None) -> InputRecord:
    return InputRecord("test.vcf", 1, None, chromosome, position, ref, alt)


def records_of(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:
    """Rows of a reader's batches, as scalar normalisation takes them."""
    names = ("record", "source_id", "chromosome", "position", "reference_allele", "alternate_allele")
    for batch in read_batches(path, config):
        assert batch.schema == RECORD_SCHEMA
        yield from (InputRecord(str(path), *(row[name] for name in names)) for row in batch.to_pylist())
