"""The first pass: parts of variant files, read and divided by contig into scratch files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.harmonise import Orientation
from enformer_ray.catalogue.liftover import chain_of, lift_batch
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import UnknownContigError, VariantFileError
from enformer_ray.files import made_ahead
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers import conversions
from enformer_ray.readers.bgzf import Part, PartReader
from enformer_ray.readers.schema import PROBLEM_CODES, RECORD_SCHEMA, null_column

ADDED_SCHEMA = pa.schema(
    {
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "lifted": pa.string(),
        "harmonisation": pa.string(),
        "reason": pa.string(),
    }
)
"""What preparing adds to a record.

    original_*: what the file had, where the record's own columns now have something else; null where they have not.
    lifted: `forward` or `reverse`; null where coordinates are the file's own.
    harmonisation: how the reference allele was found; null where the file says which it is.
    reason: why a record is rejected before normalisation, a key of `REASONS`; null for one that is not.
"""

PREPARED_SCHEMA = pa.schema([*RECORD_SCHEMA, *ADDED_SCHEMA])


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


SCRATCH_SCHEMA = pa.schema([*PREPARED_SCHEMA, pa.field("input", pa.int64())])

_FLUSH_ROWS = 131_072
_MAX_ROWS = 1_048_576
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class ScratchWriter:
    """Divides batches by contig.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._rows: dict[int, int] = {}

    def add(self, batch: pa.RecordBatch, contigs: NDArray[np.int32]) -> None:
        """Add a batch (`SCRATCH_SCHEMA`) whose rows lie on the contigs of these numbers."""
        if not len(batch):
            return
        if (contigs == contigs[0]).all():
            self._keep(int(contigs[0]), batch)
        else:
            order = np.argsort(contigs, kind="stable")
            batch, contigs = batch.take(pa.array(order)), contigs[order]
            cuts = [0, *(np.flatnonzero(np.diff(contigs)) + 1).tolist(), len(batch)]
            for start, end in pairwise(cuts):
                self._keep(int(contigs[start]), batch.slice(start, end - start))
        if sum(self._rows.values()) > _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write all that is held back."""
        for contig in list(self._waiting):
            self._write(contig)

    def _keep(self, contig: int, batch: pa.RecordBatch) -> None:
        self._waiting.setdefault(contig, []).append(batch)
        self._rows[contig] = self._rows.get(contig, 0) + len(batch)
        if self._rows[contig] >= _FLUSH_ROWS:
            self._write(contig)

    def _write(self, contig: int) -> None:
        table = pa.Table.from_batches(self._waiting.pop(contig)).combine_chunks()
        del self._rows[contig]
        # Most columns are null in most files; a stream of its own says which it has.
        table = table.select([name for name in table.column_names if table.column(name).null_count < len(table)])
        with (
            scratch_file(self._folder, contig).open("ab") as file,
            pa.ipc.new_stream(file, table.schema, options=_OPTIONS) as stream,
        ):
            stream.write_table(table)


def scratch_file(folder: Path, contig: int) -> Path:
    """File of the contig of a number."""
    return folder / f"{contig:06d}.arrows"


def read_scratch(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches (`SCRATCH_SCHEMA`) of a contig's file."""
    size = path.stat().st_size
    with pa.OSFile(str(path)) as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    there = set(batch.schema.names)
                    columns = [
                        batch.column(f.name) if f.name in there else null_column(f.type, len(batch))
                        for f in SCRATCH_SCHEMA
                    ]
                    yield pa.record_batch(columns, schema=SCRATCH_SCHEMA)


Item = TypeVar("Item")

_AHEAD = 3


@dataclass
class LoadedPart:
    """A part in its scratch folder.

    Attributes:
        part: what was read.
        folder: where its scratch files are.
        rows: alleles.
        records: records of the file; numbers of a part begin at 1.
        lines: lines of a part that is not a whole file, numbered from 1.
        problems: records that could not be read.
        contigs: alleles by number of the contig in the FASTA; behind its last one are those on none of them.
        unknown: alleles by name of a contig that the FASTA does not have.
        orientation: where its first records have the reference allele, if the file does not say.
    """

    part: Part
    folder: Path
    rows: int = 0
    records: int = 0
    lines: int = 0
    problems: int = 0
    contigs: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    orientation: Orientation = field(default_factory=Orientation)


def load_part(part: Part, reference: ReferenceGenome, config: CatalogueConfig, folder: Path) -> LoadedPart:
    """Read a part of a variant file into scratch files.

    Args:
        part: what to read.
        reference: the FASTA.
        config: how files are read.
        folder: made for the part.

    Raises:
        VariantFileError: the file cannot be read.
        ChainFileError: the chain file that lifts it cannot be read.
    """
    folder.mkdir(parents=True)
    loaded, writer = LoadedPart(part, folder), ScratchWriter(folder)
    names, chain = _ContigNumbers(reference), chain_of(part.path, config)
    reader = PartReader(part, config)
    for batch in made_ahead(iter(reader), _AHEAD):
        records = prepared(batch)
        records = lift_batch(records, chain) if chain else records
        loaded.orientation.look(records, reference)
        numbers = np.arange(loaded.rows, loaded.rows + len(batch))
        loaded.rows += len(batch)
        loaded.records = batch.column("record")[-1].as_py()
        loaded.problems += len(batch) - batch.column("problem").null_count
        contigs = names.numbers(records, loaded)
        writer.add(pa.record_batch([*records.columns, pa.array(numbers)], schema=SCRATCH_SCHEMA), contigs)
    writer.flush()
    loaded.lines = reader.lines
    return loaded


def load_parts(
    parts: Sequence[Part], load: Callable[[Sequence[Part], Path], Iterable[LoadedPart]], folder: Path
) -> list[LoadedPart]:
    """Load parts, so that numbers, order and errors are those of files that are read in one go.

    What is said of a bad record names its line, which a part does not know: a file with any is read again, whole.

    Args:
        parts: of all files, in order.
        load: loads parts into folders of their own under a folder, in their order.
        folder: for them.

    Raises:
        VariantFileError: a file cannot be read.
    """
    loaded: list[LoadedPart] = []
    for number, group in groupby(parts, key=lambda part: part.file):
        pieces = list(group)
        try:
            found = list(load(pieces, folder / f"{number}-parts"))
        except VariantFileError:
            if len(pieces) == 1:
                raise
            found = []
        if len(pieces) > 1 and (not found or any(part.problems for part in found)):
            shutil.rmtree(folder / f"{number}-parts", ignore_errors=True)
            found = list(load([Part(number, pieces[0].path)], folder / f"{number}-whole"))
        loaded += found
    return loaded


class _ContigNumbers:
    """Numbers of contigs in the FASTA, by the names that files use."""

    def __init__(self, reference: ReferenceGenome) -> None:
        self._reference = reference
        self._numbers = {name: number for number, name in enumerate(reference.chromosomes)}
        self._known: dict[str | None, int] = {None: len(self._numbers)}

    def numbers(self, batch: pa.RecordBatch, loaded: LoadedPart) -> NDArray[np.int32]:
        """Contig of each record, counted in `loaded`."""
        column = batch.column("chromosome")
        if column.null_count:  # what could not be read has no place either
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
