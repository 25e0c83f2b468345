"""The catalogue: every input record accounted for, every unique normalised variant once, in genome order.

Files are read once, into scratch files divided by contig. Then, contig after contig: its bases come into memory, its
records are compared with them and normalised, and DuckDB sorts them within a fixed memory. So the size of a catalogue
is bounded by disk, and its memory by the longest contig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from enformer_ray.catalogue.checks import (
    Changes,
    Counts,
    check_contigs,
    check_file_assembly,
    check_not_empty,
    header_lengths,
)
from enformer_ray.catalogue.contig import ContigBuilder
from enformer_ray.catalogue.files import errors_of_the_disk, open_database
from enformer_ray.catalogue.harmonise import Harmoniser
from enformer_ray.catalogue.liftover import chain_of, check_chain_patterns
from enformer_ray.catalogue.load import LoadedPart, load_part, load_parts
from enformer_ray.catalogue.sources import find_sources, is_saturation, write_saturation
from enformer_ray.config import DEFAULT_STRIDE, CatalogueConfig, Placement
from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.bgzf import Part, list_parts

OTHER = "other"
"""Stands for the contig of records that lie on none of the FASTA's."""

Load = Callable[[Sequence[Part], Path], Iterable[LoadedPart]]
"""Loads parts into folders of their own under a folder, in their order."""


@dataclass(frozen=True)
class Catalogue:
    """A catalogue on disk.

    Attributes:
        inputs: chromosome -> Parquet file of its input records in the order of reading: input (int64, dense), file,
            record, source_id, original_chromosome, original_position (1-based), original_reference_allele,
            original_alternate_allele, status (planned, duplicate or rejected), reason (null unless rejected), variant
            (null when rejected). Records on contigs that the FASTA does not have are under "other".
        variants: chromosome -> Parquet file of its unique variants, sorted by position and alleles: variant (int64,
            dense over the catalogue), variant_id, chromosome, position (1-based int32), reference_allele,
            alternate_allele, unknown_bases (int32, in the window at shift 0).
        counts: input records by status and reason; the reason is None unless rejected.
        changes: input records by how their reference allele was found (`harmonisation`), and by strand of the chain
            that lifted them (`lifted`); those of files that needed neither are not counted.
        digest: hex sha256 over the rows of all files but the `file` column: what was read and what became of it.
        chromosomes: those with variants, in the order of the FASTA.
        planned: unique variants.
        total: input records, one for each alternate allele.
    """

    inputs: dict[str, Path]
    variants: dict[str, Path]
    counts: Counts
    changes: Changes
    digest: str
    chromosomes: list[str]
    planned: int
    total: int


def build_catalogue(
    variants: Sequence[str | Path],
    reference: ReferenceGenome,
    config: CatalogueConfig,
    window_length: int,
    placement: Placement,
    scratch: Path,
    stride: int = DEFAULT_STRIDE,
    load: Load | None = None,
) -> Catalogue:
    """Read variant files into a catalogue.

    Args:
        variants: paths, globs, `-` or regions to saturate, in the order in which records are numbered.
        reference: the FASTA that the variants refer to.
        config: how files are read and what is rejected.
        window_length: of the network's input, bp.
        placement: of the windows in which unknown bases are counted.
        scratch: an existing folder; the catalogue's files are written to it.
        stride: of the placement `shared`, bins.
        load: reads parts of a file (see `load_parts`); by default one after the other in this process.

    Raises:
        VariantFileError: a file cannot be read.
        ConfigError: a chain file is given for a variant file that there is not, or for synthetic variants.
        RegionError: a region to saturate is not in the reference, or its BED file cannot be read.
        ChainFileError: a chain file cannot be read.
        AssemblyMismatchError: too many reference alleles of a file differ from the FASTA.
        UnknownContigError: hardly any record lies on a contig of the FASTA.
        EmptyCatalogueError: there is no record, or none that can be scored.
        DiskError: the disk of `scratch` is full.
    """
    with (
        TemporaryDirectory(dir=scratch) as workspace,
        errors_of_the_disk(scratch),
        open_database(Path(workspace)) as database,
    ):
        folder = Path(workspace)
        files = find_sources(variants, folder)
        _write_synthetic(files, reference, config)
        check_chain_patterns(list(files.values()), config)
        parts = [part for number, path in enumerate(files.values()) for part in list_parts(number, path, config)]
        loaded = load_parts(parts, load or _one_by_one(reference, config), folder)
        total = sum(part.rows for part in loaded)
        check_contigs(loaded, list(files), total, reference)
        window = (window_length, placement, stride)
        harmonise = Harmoniser(config, reference).harmonise
        builder = ContigBuilder(database, reference, config, window, files, scratch, harmonise)
        with _removed_on_error(builder), builder:
            for number, name in enumerate([*reference.chromosomes, OTHER]):
                if any(part.contigs[number] for part in loaded):
                    builder.add(name, number, loaded, folder)
            builder.finish()
            for tally in builder.tallies:
                header, chain = header_lengths(tally.path), chain_of(tally.path, config)
                check_file_assembly(tally, reference, config.max_ref_mismatch, header, chain)
            check_not_empty(builder.counts, builder.planned, list(files.values()))
    return Catalogue(
        inputs=builder.inputs,
        variants=builder.variants,
        counts=builder.counts,
        changes=builder.changes,
        digest=builder.digest.hexdigest(),
        chromosomes=list(builder.variants),
        planned=builder.planned,
        total=total,
    )


def _write_synthetic(files: Mapping[str, Path], reference: ReferenceGenome, config: CatalogueConfig) -> None:
    for name, path in files.items():
        if is_saturation(name):
            write_saturation(name, reference, config.saturate_deletions, path)
            if chain_of(path, config) is not None:
                raise ConfigError(
                    f"the synthetic variants of {name} are those of the reference itself and cannot be lifted; leave "
                    "`catalogue.chain` (--chain) out, or let its mapping name the variant files that it is for."
                )


def _one_by_one(reference: ReferenceGenome, config: CatalogueConfig) -> Load:
    def load(parts: Sequence[Part], folder: Path) -> Iterable[LoadedPart]:
        return (load_part(part, reference, config, folder / str(i)) for i, part in enumerate(parts))

    return load


@contextmanager
def _removed_on_error(builder: ContigBuilder) -> Iterator[None]:
    """Leave no files of a catalogue that was refused."""
    try:
        yield
    except BaseException:
        for path in (*builder.variants.values(), *builder.inputs.values()):
            path.unlink(missing_ok=True)
        raise
