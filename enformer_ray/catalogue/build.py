"""Builds the catalogue: every input record accounted for, every unique normalised variant once, in genome order.

Files are read once, into scratch files divided by contig. Then, contig after contig: its bases come into memory, its
records are compared with them and normalised, and DuckDB sorts them within a fixed memory. So the size of a catalogue
is bounded by disk, and its memory by the longest contig.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.checks import (
    Changes,
    Counts,
    check_assembly,
    check_contigs,
    check_not_empty,
    header_lengths,
)
from enformer_ray.catalogue.contig import ContigBuilder
from enformer_ray.catalogue.files import (
    ADDED_SCHEMA,
    PREPARED_SCHEMA,
    SCRATCH_SCHEMA,
    LoadedPart,
    ScratchWriter,
    open_database,
    translated_disk_errors,
)
from enformer_ray.catalogue.harmonise import Harmoniser
from enformer_ray.catalogue.lifted_alleles import name_new_references
from enformer_ray.catalogue.liftover import chain_of, check_chain_patterns, lift_batch
from enformer_ray.catalogue.sources import find_sources, is_saturation, write_saturation
from enformer_ray.config import DEFAULT_STRIDE, CatalogueConfig, Placement
from enformer_ray.errors import ConfigError, UnknownContigError, VariantFileError
from enformer_ray.files import made_ahead
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers import conversions
from enformer_ray.readers.bgzf import FilePart, PartReader, list_parts
from enformer_ray.readers.schema import PROBLEM_CODES, RECORD_SCHEMA, null_column
from enformer_ray.readers.table_use import TableUse, table_use

OTHER = "other"
"""Name in a catalogue for all contigs that the FASTA does not have."""

Load = Callable[[Sequence[FilePart], Path], Iterable[LoadedPart]]
"""Loads parts into folders of their own under a folder, in their order."""

_AHEAD = 3

_Item = TypeVar("_Item")


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
            that lifted them (`lifted`); records of files that needed neither are not counted.
        digest: hex sha256 over the rows of all files without the column `file`, so that a file may be renamed.
        chromosomes: names of those with variants, in the order of the FASTA.
        tables: what is read of the columns of those files that are tables.
        planned: number of unique variants.
        total: number of input records, one for each alternate allele.
    """

    inputs: dict[str, Path]
    variants: dict[str, Path]
    counts: Counts
    changes: Changes
    digest: str
    chromosomes: list[str]
    tables: tuple[TableUse, ...]
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
    """Read variant files into a catalogue, with its files in the existing folder `scratch`.

    Args:
        variants: paths, globs, `-` or regions to saturate, in the order in which records are numbered.
        reference: the FASTA that the variants refer to.
        config: how files are read and what is rejected.
        window_length: length of the windows in which unknown bases are counted, bp.
        placement: of the same windows.
        scratch: an existing folder.
        stride: of the placement `shared`, bins.
        load: reads parts of a file (see `load_parts`); by default one after the other in this process.
    """
    with (
        TemporaryDirectory(dir=scratch) as workspace,
        translated_disk_errors(scratch),
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
            _build_contigs(builder, reference, loaded, folder)
            _check(builder, reference, config)
    return Catalogue(
        inputs=builder.inputs,
        variants=builder.variants,
        counts=builder.counts,
        changes=builder.changes,
        digest=builder.digest.hexdigest(),
        chromosomes=list(builder.variants),
        tables=_tables(loaded, list(files)),
        planned=builder.planned,
        total=total,
    )


def _tables(loaded: Sequence[LoadedPart], files: Sequence[str]) -> tuple[TableUse, ...]:
    found = ((files[part.part.file], part.table) for part in loaded)
    return tuple(table.model_copy(update={"file": name}) for name, table in found if table is not None)


def _write_synthetic(files: Mapping[str, Path], reference: ReferenceGenome, config: CatalogueConfig) -> None:
    for name, path in files.items():
        if is_saturation(name):
            write_saturation(name, reference, config.saturate_deletions, path)
            if chain_of(path, config) is not None:
                raise ConfigError(
                    f"the synthetic variants of {name} are those of the reference itself and cannot be lifted; leave "
                    "`catalogue.chain` (--chain) out, or let its mapping name the variant files that it is for."
                )


def _build_contigs(
    builder: ContigBuilder, reference: ReferenceGenome, loaded: Sequence[LoadedPart], folder: Path
) -> None:
    for number, name in enumerate([*reference.chromosomes, OTHER]):
        if any(part.contigs[number] for part in loaded):
            builder.add(name, number, loaded, folder)
    builder.finish()


def _check(builder: ContigBuilder, reference: ReferenceGenome, config: CatalogueConfig) -> None:
    # An assembly first: on another one than the FASTA's nearly all records are rejected, and that would be the message.
    for tally in builder.tallies:
        header, chain = header_lengths(tally.path), chain_of(tally.path, config)
        check_assembly(tally.path, tally.agreement, reference, config.max_ref_mismatch, header, chain)
    check_not_empty(builder.counts, builder.planned, [tally.path for tally in builder.tallies])


def _one_by_one(reference: ReferenceGenome, config: CatalogueConfig) -> Load:
    def load(parts: Sequence[FilePart], folder: Path) -> Iterable[LoadedPart]:
        return (load_part(part, reference, config, folder / str(i)) for i, part in enumerate(parts))

    return load


@contextmanager
def _removed_on_error(builder: ContigBuilder) -> Iterator[None]:
    """Remove the files of a catalogue that is refused."""
    try:
        yield
    except BaseException:
        for path in (*builder.variants.values(), *builder.inputs.values()):
            path.unlink(missing_ok=True)
        raise


def load_parts(parts: Sequence[FilePart], load: Load, folder: Path) -> list[LoadedPart]:
    """Load the parts of all files, so that numbers, order and errors are those of files that are read in one go."""
    loaded: list[LoadedPart] = []
    for number, group in groupby(parts, key=lambda part: part.file):
        pieces = list(group)
        try:
            found = list(load(pieces, folder / f"{number}-parts"))
        except VariantFileError:
            if len(pieces) == 1:
                raise
            found = []
        # The message about a bad record names its line, which a part does not know: the file is read again, whole.
        if len(pieces) > 1 and (not found or any(part.problems for part in found)):
            shutil.rmtree(folder / f"{number}-parts", ignore_errors=True)
            found = list(load([FilePart(number, pieces[0].path)], folder / f"{number}-whole"))
        loaded += found
    return loaded


def load_part(part: FilePart, reference: ReferenceGenome, config: CatalogueConfig, folder: Path) -> LoadedPart:
    """Read a part of a variant file into scratch files in `folder`, which is made for it."""
    folder.mkdir(parents=True)
    loaded, writer = LoadedPart(part, folder), ScratchWriter(folder)
    names, chain = _ContigNumbers(reference), chain_of(part.path, config)
    reader = PartReader(part, config)
    loaded.table = table_use(part.path, config) if part.is_whole else None
    loaded.orientation.named = loaded.table is not None and loaded.table.names_reference
    for batch in made_ahead(iter(reader), _AHEAD):
        records = prepared(batch)
        records = name_new_references(lift_batch(records, chain), chain, reference) if chain else records
        loaded.orientation.count(records, reference)
        numbers = np.arange(loaded.rows, loaded.rows + len(batch))
        loaded.rows += len(batch)
        loaded.records = batch.column("record")[-1].as_py()
        loaded.problems += len(batch) - batch.column("problem").null_count
        contigs = names.numbers(records, loaded)
        writer.add(pa.record_batch([*records.columns, pa.array(numbers)], schema=SCRATCH_SCHEMA), contigs)
    writer.flush()
    loaded.lines = reader.lines
    return loaded


def prepared(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A reader's batch with the columns that preparing adds.

    A problem that is a code becomes the reason. Of records without a reference allele, the other and the effect allele
    are the original ones. A p-value and its logarithm are each filled from the other. All else is null.
    """
    columns = {name: batch.column(name) for name in RECORD_SCHEMA.names}
    columns |= {field.name: null_column(field.type, len(batch)) for field in ADDED_SCHEMA}
    problem = columns["problem"]
    if problem.null_count < len(batch):
        coded = pc.fill_null(pc.is_in(problem, value_set=pa.array(list(PROBLEM_CODES))), False)
        columns["reason"] = pc.if_else(coded, problem, None)
        columns["problem"] = pc.if_else(coded, None, problem)
    if columns["effect_allele"].null_count < len(batch):
        unknown = pc.is_null(columns["reference_allele"])
        columns["original_reference_allele"] = pc.if_else(unknown, columns["other_allele"], None)
        columns["original_alternate_allele"] = pc.if_else(unknown, columns["effect_allele"], None)
    p_value, neg_log = columns["p_value"], columns["neg_log_10_p_value"]
    if p_value.null_count < len(batch) or neg_log.null_count < len(batch):
        texts = p_value.cast(pa.string())
        columns["p_value"], columns["neg_log_10_p_value"] = conversions.p_values(texts, p_value, neg_log)
    return pa.record_batch(list(columns.values()), schema=PREPARED_SCHEMA)


class _ContigNumbers:
    """Numbers of contigs in the FASTA, by the names that files use."""

    def __init__(self, reference: ReferenceGenome) -> None:
        self._reference = reference
        self._numbers = {name: number for number, name in enumerate(reference.chromosomes)}
        self._known: dict[str | None, int] = {None: len(self._numbers)}

    def numbers(self, batch: pa.RecordBatch, loaded: LoadedPart) -> NDArray[np.int32]:
        """Contig of each record, counted in `loaded`."""
        column = batch.column("chromosome")
        if column.null_count:  # of records that could not be read
            column = column.fill_null("")
        encoded = pc.dictionary_encode(column)
        names = encoded.dictionary.to_pylist()
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(names)).tolist()
        numbers = np.array([self._number(name) for name in names], dtype=np.int32)
        for name, number, count in zip(names, numbers.tolist(), counts, strict=True):
            loaded.contigs[number] += count
            if number == len(self._numbers) and name:
                loaded.unknown[name] += count
        of_records: NDArray[np.int32] = numbers[encoded.indices.to_numpy()]
        return of_records

    def _number(self, name: str) -> int:
        if name not in self._known:
            try:
                self._known[name] = self._numbers[self._reference.resolve(name)]
            except UnknownContigError:
                self._known[name] = len(self._numbers)
        return self._known[name]
