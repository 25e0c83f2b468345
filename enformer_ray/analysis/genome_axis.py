"""One axis for all chromosomes: each from its first to its last variant, with a gap between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_GAP = 0.012
"""Gap between two chromosomes as a share of all bases."""


@dataclass(frozen=True)
class Stretch:
    """A chromosome on the axis.

    Attributes:
        name: without `chr`.
        first: position (1-based) of its first variant.
        last: of its last one.
        offset: where `first` stands on the axis.
    """

    name: str
    first: int
    last: int
    offset: int

    @property
    def end(self) -> int:
        """Where `last` stands on the axis."""
        return self.offset + self.last - self.first


def genome_axis(points: pa.Table) -> tuple[list[Stretch], NDArray[np.int64], NDArray[np.int64]]:
    """The axis of variants in genome order (`chromosome`, `position`).

    Returns:
        The stretches; for each variant the number of its stretch and its place on the axis.
    """
    names = points.column("chromosome").combine_chunks().dictionary_encode()
    order, numbers = names.dictionary.to_pylist(), names.indices.to_numpy().astype(np.int64)
    position = points.column("position").to_numpy().astype(np.int64)
    spans = [(int(position[numbers == i].min()), int(position[numbers == i].max())) for i in range(len(order))]
    gap = max(1, round(_GAP * sum(last - first + 1 for first, last in spans)))
    stretches: list[Stretch] = []
    offset = 0
    for name, (first, last) in zip(order, spans, strict=True):
        stretches.append(Stretch(name, first, last, offset))
        offset += last - first + gap
    starts = np.array([stretch.offset - stretch.first for stretch in stretches], np.int64)
    return stretches, numbers, position + (starts[numbers] if len(numbers) else 0)
