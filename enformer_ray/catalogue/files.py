"""Files of a catalogue and of its building: Parquet tables, their digest, scratch files, the DuckDB database."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.harmonise import Orientation
from enformer_ray.catalogue.liftover import LIFT_SCHEMA
from enformer_ray.errors import DiskError
from enformer_ray.readers.bgzf import FilePart
from enformer_ray.readers.schema import ADDED_COLUMNS, RECORD_SCHEMA, null_column
from enformer_ray.readers.table_use import TableUse

ADDED_SCHEMA = pa.schema([*LIFT_SCHEMA, pa.field("harmonisation", pa.string())])
"""What preparing adds to a record: the columns of `LIFT_SCHEMA`, null where nothing was lifted, and how the reference
allele was found (`harmonisation`), null where the file says which it is.

`reason`, a key of `REASONS`, says why a record is rejected before normalisation; null for one that is not.
"""

PREPARED_SCHEMA = pa.schema([*RECORD_SCHEMA, *ADDED_SCHEMA])
SCRATCH_SCHEMA = pa.schema([*PREPARED_SCHEMA, pa.field("input", pa.int64())])

_ALL_DIFFERENT = {"source_id", "variant_id", "rsid", "problem"}
_FLUSH_ROWS = 131_072
_MAX_ROWS = 1_048_576
_SCRATCH_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_MEMORY = "1GB"
_MAX_THREADS = 8  # each thread of a sort wants its share of the memory


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer: zstd; whole numbers as differences, texts that recur as a dictionary.

    Numbers of records and positions mostly rise: their differences take a fifth of the space, and half of the time.
    """
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[f.name for f in schema if pa.types.is_string(f.type) and f.name not in _ALL_DIFFERENT],
        column_encoding={f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_integer(f.type)},
    )


class RowDigest:
    """sha256 of the rows of named tables, whatever their files, batches and encoding.

    Of each column it has a byte for each row (1 where it is not null), and the values that are not null: texts by their
    characters and lengths in bytes, integers as little-endian int64, other numbers as little-endian float64. Of
    `ADDED_COLUMNS` the nulls behind the last value do not count: one without values is as if it were not there.
    """

    def __init__(self) -> None:
        self._hashes: defaultdict[tuple[str, str, str], Any] = defaultdict(hashlib.sha256)
        self._nulls: Counter[tuple[str, str]] = Counter()

    def update(self, table: str, batch: pa.RecordBatch, without: tuple[str, ...] = ()) -> None:
        """Add the next rows of a table, all columns but those in `without`."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in without:
                continue
            valid = _valid(column)
            if name in ADDED_COLUMNS:
                if column.null_count == len(column):
                    self._nulls[table, name] += len(column)
                    continue
                end = valid.rindex(b"\1") + 1
                valid = bytes(self._nulls[table, name]) + valid[:end]
                self._nulls[table, name] = len(column) - end
            self._hashes[table, name, "valid"].update(valid)
            present = column.drop_null() if column.null_count else column
            if pa.types.is_string(column.type):
                lengths = pc.binary_length(present).to_numpy(zero_copy_only=False)
                self._hashes[table, name, "text"].update(_characters(present))
                self._hashes[table, name, "lengths"].update(lengths.astype("<i4", copy=False).data)
            else:
                kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
                values = present.to_numpy(zero_copy_only=False).astype(kind, copy=False)
                self._hashes[table, name, "values"].update(np.ascontiguousarray(values).data)

    def hexdigest(self) -> str:
        """Digest of everything that was added."""
        parts = ["\t".join((*key, digest.hexdigest())) for key, digest in sorted(self._hashes.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _valid(column: pa.Array) -> bytes:
    """A byte for each row: 1 where it is not null."""
    if column.null_count in (0, len(column)):
        return (b"\0" if column.null_count else b"\1") * len(column)
    flags: bytes = column.is_valid().to_numpy(zero_copy_only=False).tobytes()
    return flags


def _characters(text: pa.Array) -> memoryview:
    """The characters of an array of strings, concatenated."""
    offsets, data = text.buffers()[1:]
    bounds = np.frombuffer(offsets, dtype=np.int32)[[text.offset, text.offset + len(text)]]
    return memoryview(data)[bounds[0] : bounds[1]] if data else memoryview(b"")


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
        contigs: alleles by number of the contig in the FASTA; the number after its last counts those on none of them.
        unknown: alleles by name of a contig that the FASTA does not have.
        orientation: which allele its first records have as the reference, if the file does not say.
        table: what is read of the columns, if the file is a table.
    """

    part: FilePart
    folder: Path
    rows: int = 0
    records: int = 0
    lines: int = 0
    problems: int = 0
    contigs: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    orientation: Orientation = field(default_factory=Orientation)
    table: TableUse | None = None


class ScratchWriter:
    """Divides batches by contig into the files of an existing folder.

    Rows are held in memory until a contig has enough of them for one write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, list[pa.RecordBatch]] = {}
        self._rows: dict[int, int] = {}

    def add(self, batch: pa.RecordBatch, contigs: NDArray[np.int32]) -> None:
        """Add a batch (`SCRATCH_SCHEMA`) whose rows are on the contigs of these numbers."""
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
        """Write all that is still in memory."""
        for contig in list(self._held):
            self._write(contig)

    def _keep(self, contig: int, batch: pa.RecordBatch) -> None:
        self._held.setdefault(contig, []).append(batch)
        self._rows[contig] = self._rows.get(contig, 0) + len(batch)
        if self._rows[contig] >= _FLUSH_ROWS:
            self._write(contig)

    def _write(self, contig: int) -> None:
        table = pa.Table.from_batches(self._held.pop(contig)).combine_chunks()
        del self._rows[contig]
        # Most columns are null in most files, and left out: each write is a stream with a schema of its own.
        table = table.select([name for name in table.column_names if table.column(name).null_count < len(table)])
        with (
            scratch_file(self._folder, contig).open("ab") as file,
            pa.ipc.new_stream(file, table.schema, options=_SCRATCH_OPTIONS) as stream,
        ):
            stream.write_table(table)


def scratch_file(folder: Path, contig: int) -> Path:
    """File of a contig, by its number in the FASTA."""
    return folder / f"{contig:06d}.arrows"


def read_scratch(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches (`SCRATCH_SCHEMA`) of a contig's file."""
    size = path.stat().st_size
    with pa.OSFile(str(path)) as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    present = set(batch.schema.names)
                    columns = [
                        batch.column(f.name) if f.name in present else null_column(f.type, len(batch))
                        for f in SCRATCH_SCHEMA
                    ]
                    yield pa.record_batch(columns, schema=SCRATCH_SCHEMA)


def open_database(folder: Path) -> duckdb.DuckDBPyConnection:
    """An empty database, which writes what memory does not hold to `folder`."""
    return duckdb.connect(
        config={
            "memory_limit": _MEMORY,
            "threads": str(min(_MAX_THREADS, os.cpu_count() or 1)),
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": "false",  # nothing is ever downloaded from here
        },
    )


@contextmanager
def translated_disk_errors(scratch: Path) -> Iterator[None]:
    """Raise DiskError where files in `scratch` could not be written for want of space."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        # DuckDB is out of memory once it cannot write to the disk what does not fit.
        if isinstance(error, OSError) and error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskError(
            f"there is no room for files to work with in {scratch} ({str(error).splitlines()[0]}). "
            "Free space on that disk, or set TMPDIR to a folder on one with more."
        ) from None
