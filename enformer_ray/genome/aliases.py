"""The table of contig aliases: further names that variant files use for contigs of the FASTA."""

from __future__ import annotations

from pathlib import Path

from enformer_ray.errors import ConfigError


def read_contig_aliases(path: Path) -> dict[str, str]:
    """Read a TSV of two columns: a name in the variants, the contig of the FASTA; lines that begin with # are comments.

    Raises:
        ConfigError: the file cannot be read, a line has not two columns, or a name stands for two contigs.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the table of contig aliases {path} (contig_aliases) cannot be read: {error}.") from None
    aliases: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            raise ConfigError(
                f"{path}, line {number}: {line[:60]!r} is not two columns with a tab between them: the name in the "
                "variant files, then the contig of the FASTA, for example NC_000001.11 and chr1."
            )
        name, contig = cells
        if aliases.setdefault(name, contig) != contig:
            raise ConfigError(
                f"{path}, line {number}: {name} stands for {aliases[name]} and for {contig}; leave one of the lines."
            )
    return aliases
