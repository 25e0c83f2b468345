"""Builds a catalogue contig by contig: records are normalised, sorted, numbered and written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.checks import Changes, Counts, FileTally, count_changes, count_statuses
from enformer_ray.catalogue.files import LoadedPart, RowDigest, open_writer, read_scratch, scratch_file
from enformer_ray.catalogue.harmonise import Orientation
from enformer_ray.catalogue.lifted_alleles import name_swapped, refuse_torn_indels
from enformer_ray.catalogue.liftover import chain_of
from enformer_ray.catalogue.normalise import (
    ACCEPTED,
    REASON_CODES,
    Normalised,
    given_reasons,
    normalise_batch,
    reason_names,
)
from enformer_ray.config import CatalogueConfig, Placement
from enformer_ray.genome.contig import ContigBases, UnknownBases
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.schema import STUDY_SCHEMA, rsids_in

Harmonise = Callable[[pa.RecordBatch, ContigBases, bool | None], pa.RecordBatch]
"""Harmonises a batch, with the bases of its contig, and whether its file has the reference as the effect allele."""

VARIANTS_SCHEMA = pa.schema(
    {
        "variant": pa.int64(),
        "variant_id": pa.string(),
        "chromosome": pa.string(),
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
        "unknown_bases": pa.int32(),
    }
)
INPUTS_SCHEMA = pa.schema(
    [
        pa.field("input", pa.int64()),
        pa.field("file", pa.string()),
        pa.field("record", pa.int64()),
        pa.field("line", pa.int64()),
        pa.field("source_id", pa.string()),
        pa.field("original_chromosome", pa.string()),
        pa.field("original_position", pa.int64()),
        pa.field("original_reference_allele", pa.string()),
        pa.field("original_alternate_allele", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("variant", pa.int64()),
        pa.field("harmonisation", pa.string()),
        pa.field("lifted", pa.string()),
        pa.field("problem", pa.string()),
        *STUDY_SCHEMA,
    ]
)

_BATCH_ROWS = 131_072
_KEYS = pa.schema(
    {
        "row": pa.int64(),
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
    }
)
_SORTED = "SELECT * FROM keys ORDER BY position, reference_allele, alternate_allele, row"
_STATUSES = pa.array(["planned", "duplicate", "rejected"])
_DROPPED = -1


class ContigBuilder:
    """Writes the files of one contig after the other, with variants numbered across all contigs.

    Args:
        database: an empty one, in which records are sorted.
        reference: the FASTA.
        config: what is rejected.
        window: length, placement and stride of the windows in which unknown bases are counted.
        files: names of the variant files.
        scratch: an existing folder for the catalogue's files.
        harmonise: finds reference alleles where a file does not say which they are.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        reference: ReferenceGenome,
        config: CatalogueConfig,
        window: tuple[int, Placement, int],
        files: Mapping[str, Path],
        scratch: Path,
        harmonise: Harmonise | None = None,
    ) -> None:
        self.inputs: dict[str, Path] = {}
        self.variants: dict[str, Path] = {}
        self.counts: Counts = Counter()
        self.changes: Changes = {}
        self.tallies = [FileTally(path) for path in files.values()]
        self.digest = RowDigest()
        self.planned = 0
        self._files = list(files)
        self._database, self._reference, self._config = database, reference, config
        self._window, self._scratch, self._harmonise = window, scratch, harmonise
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="inputs")
        self._writing: Future[None] | None = None

    def __enter__(self) -> ContigBuilder:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being written."""
        self._writer.shutdown()

    def finish(self) -> None:
        """Wait until all files are written; `inputs`, `counts`, `changes` and `digest` are complete only then."""
        if self._writing is not None:
            self._writing.result()

    def add(self, name: str, number: int, parts: Sequence[LoadedPart], workspace: Path) -> None:
        """Number and write the variants of a contig, then its input records.

        Args:
            name: of the contig in the catalogue.
            number: of the contig in the FASTA; the number after its last one is that of all unknown contigs.
            parts: all parts of the catalogue, in order.
            workspace: folder for a file of 8 bytes for each record.
        """
        records = _Contig(number, parts)
        known = number < len(self._reference.chromosomes)
        bases = ContigBases(self._reference, name) if known else None
        reasons = np.empty(records.rows, dtype=np.int8)
        # Twice the number of each record's variant, and one more for a duplicate; on disk, since records may be many.
        numbers = _numbers_on_disk(workspace / f"numbers-{number}", records.rows)
        # Contig names may hold characters that no file name may; the number of the contig names the files.
        file_name = f"{len(self.inputs):05d}.parquet"
        if bases is None:
            self._reject_all(records, reasons)
        else:
            path = self._scratch / f"variants-{file_name}"
            before, self.variants[name] = self.planned, path  # noted first, so that a refused catalogue removes it
            self._write_variants(name, self._keys(records, bases, reasons), bases, numbers, path)
            if self.planned == before:
                self.variants.pop(name).unlink()
        self.inputs[name] = self._scratch / f"inputs-{file_name}"
        # While one contig's records are written, the next one is sorted; no more than one waits.
        self.finish()
        self._writing = self._writer.submit(self._write_inputs, name, records, bases, reasons, numbers)

    def _prepared(self, records: _Contig, bases: ContigBases | None) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        for row, file, batch in records.batches():
            harmonised = batch
            if self._harmonise is not None and bases is not None:
                harmonised = self._harmonise(batch, bases, records.swapped[file])
            chain = chain_of(self.tallies[file].path, self._config)
            if chain is not None and bases is not None:
                harmonised = refuse_torn_indels(harmonised, chain, bases)
            yield row, file, harmonised

    def _reject_all(self, records: _Contig, reasons: NDArray[np.int8]) -> None:
        """Reject the records on contigs that the FASTA does not have."""
        for row, file, batch in records.batches():
            given = given_reasons(batch)
            given[given == ACCEPTED] = REASON_CODES["unknown_contig"]
            reasons[row : row + len(batch)] = given
            self.tallies[file].add(given)

    def _keys(self, records: _Contig, bases: ContigBases, reasons: NDArray[np.int8]) -> Iterator[pa.RecordBatch]:
        """Sort keys of accepted records; sets the `reasons` of all."""
        for row, file, batch in self._prepared(records, bases):
            result = normalise_batch(batch, bases, self._config.max_allele_length)
            mismatches = np.flatnonzero(result.reasons == REASON_CODES["reference_mismatch"])
            if len(mismatches):
                self.tallies[file].keep_examples(batch, mismatches, bases)
                name_swapped(batch, mismatches, result.reasons, bases)
            reasons[row : row + len(batch)] = result.reasons
            self.tallies[file].add(result.reasons)
            self.tallies[file].add_codes(batch.column("harmonisation"), result.reasons)
            yield _keys_of(result, row)

    def _write_variants(
        self,
        contig: str,
        keys: Iterator[pa.RecordBatch],
        bases: ContigBases,
        numbers: NDArray[np.int64],
        path: Path,
    ) -> None:
        """Write a contig's unique variants, and set the `numbers` of each record's variant."""
        unknown = UnknownBases(bases.unknown_runs(), len(bases.codes), *self._window)
        last: tuple[Any, ...] | None = None
        current = _DROPPED
        with open_writer(path, VARIANTS_SCHEMA) as writer:
            for batch in self._sorted(keys):
                first = _firsts(batch, last)
                unique = batch.filter(pa.array(first))
                unknown_bases = unknown.in_windows(unique.column("position").to_numpy().astype(np.int64))
                kept = unknown_bases <= (np.inf if self._config.max_unknown is None else self._config.max_unknown)
                numbered = np.where(kept, self.planned + np.cumsum(kept) - 1, _DROPPED)
                # The first rows of a batch may be of the last variant of the previous batch.
                of_rows = np.append(numbered, current)[np.cumsum(first) - 1]
                numbers[batch.column("row").to_numpy()] = np.where(of_rows < 0, _DROPPED, 2 * of_rows + ~first)
                current = of_rows[-1]
                last = tuple(batch.column(name)[-1].as_py() for name in _KEYS.names[1:])
                written = _variants(contig, unique, unknown_bases, self.planned + np.cumsum(kept) - 1)
                written = written.filter(pa.array(kept)) if not kept.all() else written
                self.planned += len(written)
                self.digest.update(f"variants {contig}", written)
                writer.write_batch(written)

    def _sorted(self, keys: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = pa.RecordBatchReader.from_batches(_KEYS, keys)
        self._database.register("keys", reader)
        # `execute` would hold all rows in memory; `sql` does not.
        yield from self._database.sql(_SORTED).to_arrow_reader(_BATCH_ROWS)
        self._database.unregister("keys")

    def _write_inputs(
        self,
        contig: str,
        records: _Contig,
        bases: ContigBases | None,
        reasons: NDArray[np.int8],
        numbers: np.memmap[Any, np.dtype[np.int64]],
    ) -> None:
        with open_writer(self.inputs[contig], INPUTS_SCHEMA) as writer:
            for row, file, batch in self._prepared(records, bases):
                rows = slice(row, row + len(batch))
                written = _inputs(batch, self._files[file], _statuses(reasons[rows], numbers[rows]))
                # Before rsids are filled, which source ids decide: plans of versions that did not fill them stay valid.
                self.digest.update(f"inputs {contig}", written, without=("file",))
                writer.write_batch(_with_rsids(written))
                self.counts.update(count_statuses(written))
                count_changes(written, self.changes)
        Path(str(numbers.filename)).unlink()


def _numbers_on_disk(path: Path, rows: int) -> np.memmap[Any, np.dtype[np.int64]]:
    """An array in a file whose space is reserved: a page that a full disk cannot hold would kill the process."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, rows * np.dtype(np.int64).itemsize)
    return np.memmap(path, dtype=np.int64, mode="r+", shape=(rows,))


class _Contig:
    """The records of one contig in the scratch files of all parts, numbered as if files had been read in one go."""

    def __init__(self, number: int, parts: Sequence[LoadedPart]) -> None:
        self._number, self._parts = number, parts
        orientations: dict[int, Orientation] = {}
        for part in parts:
            orientations.setdefault(part.part.file, Orientation()).add(part.orientation)
        self.swapped = {file: orientation.swapped for file, orientation in orientations.items()}
        self.rows = sum(part.contigs[number] for part in parts)

    def batches(self) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Batches of records, each with the number of its first row and of its file."""
        row = inputs = records = lines = 0
        file = -1
        for part in self._parts:
            if part.part.file != file:
                file, records, lines = part.part.file, 0, 0
            if part.contigs[self._number]:
                for batch in read_scratch(scratch_file(part.folder, self._number)):
                    yield row, file, _shifted(batch, {"input": inputs, "record": records, "line": lines})
                    row += len(batch)
            inputs, records, lines = inputs + part.rows, records + part.records, lines + part.lines


def _shifted(batch: pa.RecordBatch, offsets: Mapping[str, int]) -> pa.RecordBatch:
    for name, offset in offsets.items():
        if offset:
            index = batch.schema.get_field_index(name)
            batch = batch.set_column(index, batch.schema.field(index), pc.add(batch.column(index), offset))
    return batch


def _keys_of(result: Normalised, row: int) -> pa.RecordBatch:
    accepted = result.reasons == ACCEPTED
    position = np.where(accepted, result.position, 0).astype(np.int32)
    columns = [pa.array(np.arange(row, row + len(position))), pa.array(position)]
    keys = pa.record_batch([*columns, result.reference_allele, result.alternate_allele], schema=_KEYS)
    return keys if accepted.all() else keys.filter(pa.array(accepted))


def _firsts(batch: pa.RecordBatch, last: tuple[Any, ...] | None) -> NDArray[np.bool_]:
    """Which rows of a sorted batch differ from the previous row; `last` is the row before the batch."""
    first = np.zeros(len(batch), dtype=np.bool_)
    first[0] = last is None or last != tuple(batch.column(name)[0].as_py() for name in _KEYS.names[1:])
    for name in _KEYS.names[1:]:
        column = batch.column(name)
        first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return first


def _variants(
    contig: str, unique: pa.RecordBatch, unknown_bases: NDArray[np.int32], numbers: NDArray[np.int64]
) -> pa.RecordBatch:
    chromosome = pa.repeat(pa.scalar(contig), len(unique))
    position, reference, alternate = (unique.column(name) for name in _KEYS.names[1:])
    variant_id = pc.binary_join_element_wise(chromosome, position.cast(pa.string()), reference, alternate, "_")
    columns = [pa.array(numbers), variant_id, chromosome, position, reference, alternate, pa.array(unknown_bases)]
    return pa.record_batch(columns, schema=VARIANTS_SCHEMA)


def _statuses(reasons: NDArray[np.int8], numbers: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Status, reason and variant of records."""
    accepted = reasons == ACCEPTED
    dropped = accepted & (numbers == _DROPPED)
    rejected = ~accepted | dropped
    reasons = np.where(dropped, np.int8(REASON_CODES["too_many_unknown_bases"]), reasons)
    status = np.where(rejected, 2, numbers & 1)
    return {
        "status": _STATUSES.take(pa.array(status)),
        "reason": reason_names(reasons),
        "variant": pa.array(numbers >> 1, mask=rejected),
    }


def _with_rsids(written: pa.RecordBatch) -> pa.RecordBatch:
    """Input records whose `rsid` is one rs number where the file gives any, as its rsid or as its identifier."""
    given, source = written.column("rsid"), written.column("source_id")
    if source.null_count == len(source) and given.null_count == len(given):
        return written
    index = written.schema.get_field_index("rsid")
    return written.set_column(index, "rsid", pc.coalesce(rsids_in(given), given, rsids_in(source)))


def _inputs(batch: pa.RecordBatch, file: str, statuses: Mapping[str, pa.Array]) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in batch.schema.names} | dict(statuses)
    columns["file"] = pa.repeat(pa.scalar(file), len(batch))
    for name in ("chromosome", "position", "reference_allele", "alternate_allele"):
        original = columns[f"original_{name}"]
        changed = original.null_count < len(original)
        columns[f"original_{name}"] = pc.coalesce(original, columns[name]) if changed else columns[name]
    return pa.record_batch([columns[field.name] for field in INPUTS_SCHEMA], schema=INPUTS_SCHEMA)
