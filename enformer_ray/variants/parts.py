"""Parts of variant files that can be read by themselves: whole files, or stretches of large bgzip files.

A bgzip file is a chain of blocks, each unpacked by itself, so a text file can be cut at any of them: a line belongs to
the part in which it begins. A BCF can be cut where its index says that a record begins.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.variants.readers import format_of

if TYPE_CHECKING:
    from enformer_ray.variants.load import LoadedPart


class Part(NamedTuple):
    """A stretch of one variant file, or all of it.

    Attributes:
        file: number of the file.
        path: the file.
        format: name of its format.
        start: first byte (of the packed file), None for a whole file.
        end: one behind the last.
    """

    file: int
    path: Path
    format: str
    start: int | None = None
    end: int | None = None


def list_parts(file: int, path: Path, config: CatalogueConfig, size: int | None = None) -> list[Part]:
    """The parts of a file in its order."""
    return [Part(file, path, format_of(path, config).name)]


def read_part(part: Part, config: CatalogueConfig, loaded: LoadedPart) -> Iterator[pa.RecordBatch]:
    """Batches of a part, numbered from 1 in it."""
    return format_of(part.path, config).read(part.path, config)
