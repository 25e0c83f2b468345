"""What an export wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from enformer_ray.analysis.exports.source import unscored


@dataclass
class ExportSummary:
    """What an export wrote.

    Attributes:
        files: under their final names.
        rows: rows, records or pairs in them.
        scored: those that have scores.
        notes: what else a person should know, a sentence each.
    """

    files: list[Path] = field(default_factory=list)
    rows: int = 0
    scored: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> None:
        """Add a batch whose scores are in these columns."""
        self.rows += batch.num_rows
        self.scored += batch.num_rows - unscored(batch, columns)
