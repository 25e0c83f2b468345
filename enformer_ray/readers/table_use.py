"""What is read of the columns of a table, and what is not: for the summary of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from enformer_ray.config import CatalogueConfig
from enformer_ray.readers.formats import format_of
from enformer_ray.readers.parquet import parquet_columns, parquet_files
from enformer_ray.readers.tables import read_delimited, read_table, table_columns

_EFFECT = ("effect_allele", "alternate_allele", "variant", "source_id")


class TableUse(BaseModel):
    """Columns of a table.

    Attributes:
        file: the table.
        format: its format, as `catalogue.format` calls it.
        used: role -> column that is read for it.
        ignored: columns that are not read.
        names_reference: the other allele is in a column that is called the reference.
        rule: which allele counts as the effect allele and why, where names alone do not say it; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    format: str
    used: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    names_reference: bool = False
    rule: str = ""

    @property
    def effect_allele(self) -> str:
        """The column that the effect allele comes from."""
        return next((self.used[role] for role in _EFFECT if role in self.used), "")


def table_use(path: Path, config: CatalogueConfig) -> TableUse | None:
    """What is read of a table, in a folder of Parquet files of the first; None for a file of another kind.

    Raises:
        EnformerRayError: what reading the file does.
    """
    known = format_of(path, config)
    if known.name == "parquet":
        files = parquet_files(path) if path.is_dir() else [path]
        dialect, names = parquet_columns(files[0], config)
    elif known.read in (read_table, read_delimited):
        dialect, names = table_columns(path, config, plain=known.read is read_table)
    else:
        return None
    names = list(dialect.header or names)
    found = dialect.find_columns(names)
    return TableUse(
        file=str(path),
        format=dialect.key,
        used={role: names[index] for role, index in found.items()},
        ignored=tuple(name for index, name in enumerate(names) if index not in found.values()),
        names_reference=dialect.names_reference,
        rule=dialect.rule,
    )
