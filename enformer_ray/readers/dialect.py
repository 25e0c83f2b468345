"""Which column of a table is which: default names, their usual synonyms, and what the job file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.schema import STUDY_SCHEMA

TextColumns = dict[str, pa.StringArray]
"""Columns of text by role; a missing value is null."""

NUMBERS = (
    "beta",
    "odds_ratio",
    "hazard_ratio",
    "standard_error",
    "p_value",
    "neg_log_10_p_value",
    "effect_allele_frequency",
    "n",
    "pip",
)
MAPPED_ROLES = (
    "chromosome",
    "position",
    "reference_allele",
    "alternate_allele",
    "source_id",
    "effect_allele",
    "other_allele",
    *NUMBERS,
    "credible_set",
    "rsid",
)
"""Roles that `columns` in the job file can name."""

MISSING = frozenset({"", ".", "NA", "#NA", "N/A", "na", "nan", "NaN", "NAN", "-nan", "null", "NULL", "None"})
"""What stands for a missing value in all dialects; in an allele, only the first four do."""

X_Y_XY_MT = {"23": "X", "24": "Y", "25": "X", "26": "MT"}
"""PLINK's numbers of the chromosomes that are no autosomes; 25 is the pseudo-autosomal region, which lies on X."""

X_Y_MT = {"23": "X", "24": "Y", "25": "MT"}
"""GWAS-SSF's numbers of them."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Column names of one kind of file. Names are compared in any case and without a leading `#`.

    Attributes:
        key: what `catalogue.format` calls it.
        name: what people call it.
        signature: a file is of this dialect if it has at least one column of each group.
        columns: for each role (those of MAPPED_ROLES, and n_cases, n_controls, trait, region, test, variant and
            omitted_allele), the names that its column can have, in order of preference.
        without: a file with one of these columns is of another dialect.
        tests: values of the role `test` that mark results of the variant itself; other rows are `other_test`.
        chromosomes: what numbers stand for.
        missing: further texts that stand for a missing allele.
        convert: fills roles from other columns.
        header: column names of a file that has no line of them.
    """

    key: str
    name: str
    signature: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    without: frozenset[str] = frozenset()
    tests: frozenset[str] = frozenset()
    chromosomes: Mapping[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    convert: Callable[[TextColumns], None] | None = None
    header: tuple[str, ...] = ()

    def recognises(self, names: Sequence[str]) -> bool:
        """Whether a line of column names is one of this dialect."""
        plain = set(plain_names(names))
        return all(plain & {n.lower() for n in group} for group in self.signature) and not plain & self.without

    def find_columns(self, names: Sequence[str]) -> dict[str, int]:
        """Index of the column of each role that a file has one for."""
        plain = plain_names(names)
        found = {
            role: next((plain.index(name.lower()) for name in candidates if name.lower() in plain), None)
            for role, candidates in self.columns.items()
        }
        return {role: index for role, index in found.items() if index is not None}


def plain_names(names: Sequence[str]) -> list[str]:
    """Column names in lower case, without quotes, a byte-order mark and a leading `#`."""
    return [name.strip().strip('"').lstrip("\ufeff").removeprefix("#").strip().lower() for name in names]


def split_variant(text: pa.StringArray, pattern: str) -> dict[str, pa.StringArray]:
    """Named groups of a regular expression in a column; null where it does not match."""
    parts = pc.extract_regex(text, pattern)
    return {field.name: pc.struct_field(parts, [i]) for i, field in enumerate(parts.type)}


def join_texts(columns: Sequence[pa.StringArray], where: pa.BooleanArray) -> pa.StringArray:
    """Columns joined by `|`, missing ones left out; null where all are missing or `where` is not true."""
    some = pc.is_valid(pc.coalesce(*columns))
    # Arrow drops a row in which all are null, instead of giving a null.
    first = pc.if_else(some, columns[0], "")
    joined = pc.binary_join_element_wise(first, *columns[1:], "|", null_handling="skip")
    return pc.if_else(pc.and_(pc.fill_null(where, False), some), joined, None)


# In order of preference. allele1, a1, effect_allele and their like are left out: which of a pair is the reference
# differs from tool to tool.
SYNONYMS = {
    "chromosome": ("chromosome", "chrom", "chr", "contig"),
    "position": ("position", "pos", "bp", "base_pair_location"),
    "reference_allele": ("reference_allele", "ref_allele", "reference", "ref"),
    "alternate_allele": ("alternate_allele", "alt_allele", "alternate", "alternative", "alt"),
    "source_id": ("source_id", "rsid", "rs_id", "rsids", "variant_id", "varid", "snpid", "snp", "marker_id", "id"),
}

MISSING_IN_TABLE = frozenset({"", ".", "NA"})
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
