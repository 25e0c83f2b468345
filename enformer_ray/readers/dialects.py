"""Dialects of summary statistics and fine-mapping outputs: one table of column names a tool, chosen by the header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.dialect import MAPPED_ROLES, SYNONYMS, X_Y_XY_MT, Dialect
from enformer_ray.readers.known_dialects import (
    BOLT_LMM,
    CREDIBLE_SETS,
    EPACTS,
    EQTL_CATALOGUE,
    FINNGEN,
    FINNGEN_SUSIE,
    GWAS_CATALOG_HARMONISED,
    GWAS_SSF,
    PLINK2_GLM,
    PLINK_BIM,
    REGENIE,
    SAIGE,
)

__all__ = ["DIALECTS", "MAPPED", "Dialect", "find_dialect", "matching_dialects"]

DIALECTS = (
    GWAS_SSF,
    GWAS_CATALOG_HARMONISED,
    REGENIE,
    SAIGE,
    PLINK2_GLM,
    BOLT_LMM,
    FINNGEN,
    FINNGEN_SUSIE,
    EPACTS,
    EQTL_CATALOGUE,
    CREDIBLE_SETS,
    PLINK_BIM,
)
MAPPED = "columns"
"""What `format` calls a table of no dialect, whose columns the job file names."""

_BIM_CELLS = 6


def matching_dialects(names: Sequence[str]) -> list[Dialect]:
    """Dialects that a line of column names is of; the cells of a `.bim`'s first line are told by their kind."""
    if _is_bim_line(names):
        return [PLINK_BIM]
    return [dialect for dialect in DIALECTS if not dialect.header and dialect.recognises(names)]


def find_dialect(names: Sequence[str], path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of a file by `format`, else by its first line, and with the columns that `columns` names.

    Args:
        names: cells of the file's first line.
        path: the file, for errors.
        config: `format` and `columns`.

    Raises:
        ConfigError: `columns` names a role that there is not.
        VariantFileError: the first line is of no dialect or of several, or has not the columns that are named.
    """
    matching = matching_dialects(names)
    if config.format:
        matching = [dialect for dialect in DIALECTS if dialect.key == config.format]
        if matching and not matching[0].header and not matching[0].recognises(names):
            raise _lacks_columns(matching[0], names, path)
    if len(matching) > 1:
        raise VariantFileError(
            f"{path} may be of several formats by its column names: {', '.join(d.name for d in matching)}. Say which "
            f"with `format` in the job file's `catalogue`, for example format: {matching[0].key}."
        )
    if config.columns:
        return _mapped(matching[0] if matching else None, names, path, config)
    if not matching:
        raise VariantFileError(
            f"{path} is of none of the formats of summary statistics that are read here: its first line holds "
            f"{_some(names)}. Say which column is which with `columns` in the job file's `catalogue`: chromosome, "
            "position, effect_allele and other_allele at least; docs/inputs.md lists the formats and the columns."
        )
    return matching[0]


def _mapped(dialect: Dialect | None, names: Sequence[str], path: Path, config: CatalogueConfig) -> Dialect:
    """A dialect with the columns that the job file names in place of its own."""
    unknown = sorted(set(config.columns) - set(MAPPED_ROLES))
    if unknown:
        raise ConfigError(
            f"`columns` has {', '.join(unknown)}, but only these can be named: {', '.join(MAPPED_ROLES)}."
        )
    absent = sorted(set(config.columns.values()) - set(names))
    if absent:
        raise VariantFileError(
            f"{path} has no column {', '.join(map(repr, absent))}, which `columns` in the job file names; its first "
            f"line holds {_some(names)}."
        )
    named = {role: (column,) for role, column in config.columns.items()}
    if dialect is not None:
        return replace(dialect, columns={**dialect.columns, **named})
    defaults = {role: SYNONYMS[role] for role in ("chromosome", "position", "source_id")}
    mapped = Dialect(MAPPED, "table", (), {**defaults, **named}, chromosomes=X_Y_XY_MT)
    pairs = ({"effect_allele", "other_allele"}, {"reference_allele", "alternate_allele"})
    found = mapped.find_columns(names)
    missing = [role for role in ("chromosome", "position") if role not in found]
    if missing or not any(pair <= set(found) for pair in pairs):
        raise VariantFileError(
            f"{path} is read by the `columns` of the job file, which must name chromosome, position, and either "
            f"effect_allele and other_allele or reference_allele and alternate_allele; there are only "
            f"{', '.join(sorted(found)) or 'none'}. Its first line holds {_some(names)}."
        )
    return mapped


def _lacks_columns(dialect: Dialect, names: Sequence[str], path: Path) -> VariantFileError:
    lacking = [group for group in dialect.signature if not Dialect("", "", (group,), {}).recognises(names)]
    return VariantFileError(
        f"{path} is read as {dialect.name} (format: {dialect.key}), but has no column "
        f"{', '.join(' or '.join(group) for group in lacking) or 'names of it'}; its first line holds {_some(names)}. "
        "Leave `format` out to have it recognised, or name its columns with `columns`."
    )


def _is_bim_line(cells: Sequence[str]) -> bool:
    if len(cells) != _BIM_CELLS or not cells[3].lstrip("-").isdigit():
        return False
    alleles = all(cell and not set(cell.upper()) - set("ACGTN012345.-*<>ID") for cell in cells[4:])
    return alleles and cells[2].replace(".", "", 1).replace("-", "").replace("e", "", 1).isdigit()


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:30]) for name in names[:12]) + (", ..." if len(names) > 12 else "")
