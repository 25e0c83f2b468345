"""Prepared records on disk, a file a contig: written in the order of reading, read again a contig at a time.

A file is a sequence of Arrow IPC streams, so that it can be closed after each: a FASTA may have thousands of contigs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.catalogue.prepare import PREPARED_SCHEMA
from enformer_ray.readers.nulls import null_column

SCRATCH_SCHEMA = pa.schema([*PREPARED_SCHEMA, pa.field("input", pa.int64())])

_FLUSH_ROWS = 131_072
_MOST_ROWS = 1_048_576
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
        if sum(self._rows.values()) > _MOST_ROWS:
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
