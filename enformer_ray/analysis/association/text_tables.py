"""Lines of a text file that goes along with an analysis, plain or packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enformer_ray.errors import AssociationError
from enformer_ray.readers.text import open_text


def read_lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty; gzip, bgzip and zstd are unpacked.

    Args:
        path: the file.
        option: that names it.

    Raises:
        AssociationError: there is no such file.
        VariantFileError: it is damaged.
    """
    if not path.is_file():
        raise AssociationError(f"the file {path} ({option}) does not exist; check the path.")
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if line.strip():
                    yield number, line
