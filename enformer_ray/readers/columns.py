"""Which column of a table is which: default names, their usual synonyms, and what the job file says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.batch import STUDY_SCHEMA

# In order of preference. allele1, a1, effect_allele and their like are left out: which of a pair is the reference
# differs from tool to tool.
SYNONYMS = {
    "chromosome": ("chromosome", "chrom", "chr", "contig"),
    "position": ("position", "pos", "bp", "base_pair_location"),
    "reference_allele": ("reference_allele", "ref_allele", "reference", "ref"),
    "alternate_allele": ("alternate_allele", "alt_allele", "alternate", "alternative", "alt"),
    "source_id": ("source_id", "rsid", "rs_id", "rsids", "variant_id", "varid", "snpid", "snp", "marker_id", "id"),
}

MISSING = frozenset({"", ".", "NA"})
"""What stands for no identifier and no alternate allele in a text table."""

_ALLELES = ("effect_allele", "other_allele")
_OF_THE_EFFECT_ALLELE = ("beta", "effect_allele_frequency")


def is_mapped(config: CatalogueConfig) -> bool:
    """Whether the job file names columns that a table with a reference allele has not."""
    return bool(set(config.columns) - set(SYNONYMS))


class TableColumns(NamedTuple):
    """Indices of the columns that are read; no `source_id` column is None."""

    chromosome: int
    position: int
    reference_allele: int
    alternate_allele: int
    source_id: int | None


def find_columns(names: Sequence[str], path: Path, config: CatalogueConfig) -> TableColumns:
    """Find the columns of a table by name, in any case and with or without a leading `#`.

    Raises:
        ConfigError: `columns` names a role that there is not.
        VariantFileError: a column is missing, or two columns have a claim to the same role.
    """
    unknown = sorted(set(config.columns) - set(SYNONYMS))
    if unknown:
        raise ConfigError(f"`columns` has {', '.join(unknown)}, but only these can be named: {', '.join(SYNONYMS)}.")
    found = {role: _find(role, list(names), path, config) for role in SYNONYMS}
    missing = [role for role, index in found.items() if index is None and role != "source_id"]
    if missing:
        shown = ", ".join(repr(name[:30]) for name in names[:12]) + (", ..." if len(names) > 12 else "")
        raise VariantFileError(
            f"{path} has no column for {', '.join(missing)}: its first line holds {shown}. A table needs a first line "
            "with column names; say which column is which with `columns` in the job file's `catalogue`, for example "
            f"{missing[0]}: NAME. (A VCF needs its header lines: ##fileformat=VCFv4.2 and #CHROM POS ID REF ALT.)"
        )
    return TableColumns(**found)  # type: ignore[arg-type]  # what is missing was refused above


def _find(role: str, names: list[str], path: Path, config: CatalogueConfig) -> int | None:
    if role in config.columns:
        wanted = config.columns[role]
        if wanted not in names:
            raise VariantFileError(
                f"{path} has no column {wanted!r}, which `columns` gives as its {role}; its columns are "
                f"{', '.join(names[:20])}."
            )
        return names.index(wanted)
    plain = [name.strip().lower().removeprefix("#") for name in names]
    claims = [plain.index(synonym) for synonym in SYNONYMS[role] if synonym in plain]
    if len(claims) > 1 and role != "source_id":
        raise VariantFileError(
            f"{path} has several columns that may be its {role}: {', '.join(names[i] for i in claims)}. Say which with "
            f"`columns` in the job file's `catalogue`, for example {role}: {names[claims[0]]}."
        )
    return claims[0] if claims else None


def study_columns(names: Sequence[str]) -> dict[str, int]:
    """Columns of a table with reference and alternate alleles that a study has filled, by their standard names.

    Effect sizes count as of the alternate allele, so they are left out where a column says otherwise.
    """
    plain = [name.strip().lower().removeprefix("#") for name in names]
    wanted = [name for name in STUDY_SCHEMA.names if name not in _ALLELES]
    if any(name in plain for name in _ALLELES):
        wanted = [name for name in wanted if name not in _OF_THE_EFFECT_ALLELE]
    return {name: plain.index(name) for name in wanted if name in plain}
