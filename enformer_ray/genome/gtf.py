"""Lines of a GTF (https://mblab.wustl.edu/GTF22.html), plain or gzip, gone through one by one."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import GeneFileError
from enformer_ray.genome.region import canonical_name

_ATTRIBUTE = re.compile(r'(?:^|[;\s])(gene_id|gene_name|gene_type|gene_biotype|transcript_id)[ =]"?([^";]*)"?')


class GtfRecord(NamedTuple):
    """One line.

    Attributes:
        chromosome: name without `chr`.
        feature: gene, transcript, exon, ...
        start: 0-based first base.
        end: exclusive end.
        strand: as written, mostly + or -.
        attributes: the ninth column.
    """

    chromosome: str
    feature: str
    start: int
    end: int
    strand: str
    attributes: str

    def named(self) -> dict[str, str]:
        """The attributes gene_id, gene_name, gene_type, gene_biotype and transcript_id, as far as they are there."""
        return dict(_ATTRIBUTE.findall(self.attributes))


def gtf_records(path: Path, features: Collection[str]) -> Iterator[GtfRecord]:
    """Records of some features, in the order of the file.

    Args:
        path: GTF, plain or gzip.
        features: names of the third column.

    Raises:
        GeneFileError: the file cannot be read, or a line is none of a GTF.
    """
    for line_number, line in _lines(path):
        cells = line.split("\t", 8)
        if len(cells) < 9 or not (cells[3].isdecimal() and cells[4].isdecimal()):
            raise GeneFileError(
                f"line {line_number} of {path} is no line of a GTF: nine columns separated by tabs, the fourth and "
                "fifth being positions. Give --gtf an annotation in GTF, such as GENCODE's, plain or gzip."
            )
        if cells[2] in features:
            name = canonical_name(cells[0])
            yield GtfRecord(name, cells[2], int(cells[3]) - 1, int(cells[4]), cells[6], cells[8])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt") if packed else path.open(encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                if line.strip() and not line.startswith("#"):
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise GeneFileError(f"the gene annotation {path} cannot be read ({error}). Give --gtf a GTF file.") from None
