"""INFO fields: what they are called, and how they are declared."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from enformer_ray.analysis.exports.records import RecordScores
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")  # VCF 4.3, section 1.6.1, "INFO"


class InfoField(NamedTuple):
    """A field and its line in the header."""

    name: str
    declaration: str


@dataclass
class VcfCounts:
    """What was written, and whether it is in the order that an index needs.

    Attributes:
        records: number of records.
        scored: those with a score.
        longest: highest position.
        sorted: by contig and position.
    """

    records: int = 0
    scored: int = 0
    longest: int = 0
    sorted: bool = True
    _seen: set[str] = field(default_factory=set)
    _last: tuple[str | None, int] = (None, 0)

    def add(self, chromosome: str | None, position: int, scored: bool) -> None:
        """Count a record."""
        self.records += 1
        self.scored += scored
        self.longest = max(self.longest, position)
        if chromosome != self._last[0]:
            self.sorted &= chromosome is not None and chromosome not in self._seen
            self._seen.add(str(chromosome))
        else:
            self.sorted &= position >= self._last[1]
        self._last = (chromosome, position)


def info_fields(source: ExportSource, prefix: str) -> list[InfoField]:
    """A field for each track: `<prefix>_<statistic>_<column>`.

    Raises:
        ConfigError: the prefix makes no name of an INFO field.
    """
    if not _NAME.fullmatch(prefix):
        raise ConfigError(f"--prefix {prefix}: give letters, digits, _ and ., a letter or _ first, as VCF wants them.")
    what = "of ALT against REF" if source.signed else "of ALT"
    fields = []
    for track in source.tracks:
        name = f"{prefix}_{source.statistic}_{track.column}"
        said = f"Enformer {source.statistic} {what}, {track.label} ({track.identifier or track.column})"
        said = " ".join(said.split()).replace("\\", "\\\\").replace('"', '\\"')
        fields.append(InfoField(name, f'##INFO=<ID={name},Number=A,Type=Float,Description="{said}">'))
    return fields


def differs(known: RecordScores, chromosome: str, position: int, reference: str, alternates: tuple[str, ...]) -> bool:
    """Whether a record of a file is another one than the run has read at its place."""
    there = (chromosome, position, reference, alternates)
    return there != (known.chromosome, known.position, known.reference, known.alternates)
