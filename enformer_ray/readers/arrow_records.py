"""Records that this program made itself: an Arrow file with the columns of every reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.readers.batch import RECORD_SCHEMA
from enformer_ray.readers.compression import readable

_MAGIC = b"ARROW1"


def is_records_file(path: Path) -> bool:
    """Whether a file is an Arrow file of `RECORD_SCHEMA`.

    Raises:
        VariantFileError: it may not be read.
    """
    if not path.is_file():
        return False
    with readable(path), path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return False
    try:
        with pa.memory_map(str(path)) as file:
            return bool(pa.ipc.open_file(file).schema.equals(RECORD_SCHEMA))
    except pa.ArrowInvalid:
        return False


def read_records(path: Path, _: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Its batches."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
