"""Parts of variant files that can be read by themselves: whole files, or stretches of large bgzip files.

A VCF packed with bgzip is cut at any of its blocks: a line belongs to the part in which the line end before it lies. A
BCF is cut where its index (.csi) says that a record begins. Records and lines of a part are numbered from 1; what the
parts before it hold is added when all have been read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.readers import format_of
from enformer_ray.readers.bcf import read_bcf_part
from enformer_ray.readers.bgzf import block_starts, is_bgzip, record_starts, stream_of
from enformer_ray.readers.text import TextBlocks, open_text
from enformer_ray.readers.vcf import parse_vcf, read_layout

SPLIT_BYTES = 256 << 20
"""Packed size from which a file is divided: below it, other processes take longer to start than to read."""

PART_BYTES = 64 << 20


class Part(NamedTuple):
    """A stretch of one variant file, or all of it.

    Attributes:
        file: number of the file.
        path: the file.
        start: where it begins, in bytes of the packed file (VCF) or as a virtual offset (BCF).
        end: where it ends; None for the end of the file.
    """

    file: int
    path: Path
    start: int = 0
    end: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return not self.start and self.end is None


class PartReader:
    """Reads a part.

    Attributes:
        lines: lines of the part, header and all, once it has been read.
    """

    def __init__(self, part: Part, config: CatalogueConfig) -> None:
        self._part, self._config = part, config
        self.lines = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Its batches.

        Raises:
            VariantFileError: it cannot be read; lines and records in the message are those of the part.
        """
        part = self._part
        known = format_of(part.path, self._config)
        if part.is_whole:
            yield from known.read(part.path, self._config)
        elif known.name == "bcf":
            yield from read_bcf_part(part.path, self._config, part.start or None, part.end)
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[pa.RecordBatch]:
        path, start = self._part.path, self._part.start
        with open_text(path) as whole:
            layout = read_layout(whole, path)
        text = TextBlocks(stream_of(path, start, self._part.end or path.stat().st_size), path)
        if not start:
            read_layout(text, path)
        yield from parse_vcf(text, layout, path, self._config)
        self.lines = text.lines_read


def list_parts(file: int, path: Path, config: CatalogueConfig) -> list[Part]:
    """The parts of a file, in its order.

    Raises:
        VariantFileError: the file is of no format that is read here, damaged, or empty.
    """
    known = format_of(path, config).name
    if path.is_dir() or path.stat().st_size < SPLIT_BYTES or not is_bgzip(path):
        return [Part(file, path)]
    if known == "vcf":
        starts = block_starts(path, PART_BYTES)[:-1]
    elif known == "bcf":
        starts = [0, *record_starts(path, PART_BYTES)[1:]]
    else:
        starts = [0]
    ends: list[int | None] = [*starts[1:], None]
    return [Part(file, path, start, end) for start, end in zip(starts, ends, strict=True)]
