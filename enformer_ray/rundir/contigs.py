"""What a run's contigs are called elsewhere: in its FASTA, and by its table of contig aliases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from enformer_ray.genome.reference import ReferenceGenome


class ContigNames(BaseModel):
    """Names of one contig, as plan.json and run.json have them by its name in the dataset.

    Attributes:
        fasta: in the FASTA, such as `chr1`.
        aliases: in the job's table of contig aliases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fasta: str
    aliases: tuple[str, ...] = ()


def contig_names(reference: ReferenceGenome) -> dict[str, ContigNames]:
    """Names of each contig of a FASTA, by canonical name."""
    aliases: dict[str, list[str]] = {name: [] for name in reference.contigs}
    for alias in reference.aliases:
        aliases[reference.resolve(alias)].append(alias)
    return {name: ContigNames(fasta=contig, aliases=tuple(aliases[name])) for name, contig in reference.contigs.items()}


def recorded_aliases(contigs: Mapping[str, ContigNames], table: Path | None) -> dict[str, str]:
    """Further names of a run's contigs: alias -> contig of the FASTA.

    Args:
        contigs: as the run recorded them; empty where an older program made it.
        table: of the job, which is read for such a run where it still is.
    """
    if contigs:
        return {alias: names.fasta for names in contigs.values() for alias in names.aliases}
    if table is None or not table.is_file():
        return {}
    from enformer_ray.genome.reference import read_contig_aliases  # a finished dataset opens without the FASTA's reader

    return read_contig_aliases(table)
