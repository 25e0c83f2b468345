"""Dialects of text tables: what the columns of one kind of file are called, and how its cells are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.schema import STUDY_SCHEMA
from enformer_ray.readers.text import BAD_POSITION

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

# In order of preference. allele1, a1, effect_allele and their like are left out: which of a pair is the reference
# differs from tool to tool.
SYNONYMS = {
    "chromosome": ("chromosome", "chrom", "chr", "contig"),
    "position": ("position", "pos", "bp", "base_pair_location"),
    "reference_allele": ("reference_allele", "ref_allele", "reference", "ref"),
    "alternate_allele": ("alternate_allele", "alt_allele", "alternate", "alternative", "alt"),
    "source_id": ("source_id", "rsid", "rs_id", "rsids", "variant_id", "varid", "snpid", "snp", "marker_id", "id"),
}
"""Usual column names of a table that names the reference allele."""

MISSING_VALUES = frozenset({"", ".", "NA", "#NA", "N/A", "na", "nan", "NaN", "NAN", "-nan", "null", "NULL", "None"})
"""Texts that mean a missing value."""

MISSING_ALLELES = frozenset({"", ".", "NA", "#NA"})
"""Texts that mean a missing allele, where `nan` and the like could be meant as bases."""

ALLELES = ("effect_allele", "other_allele", "reference_allele", "alternate_allele", "omitted_allele")

MESSAGES = {
    "nul": "it holds a NUL byte, so it is no text",
    "width": "{found} cells where the header has {width}",
    "quotes": "this is no line of cells in quotes ({error})",
    "position": "the position {cell} is not a whole number",
    "number": "the {role} {cell} is not a number",
    "refusal": "{path}, {where}: {problem}. Correct it or take it out{cut}, or keep such records as rejected rows with "
    "`on_bad_record: keep`.",
}
"""Messages about a faulty record, and the error that refuses it; they may use {path}, {line} and {record}."""

X_Y_XY_MT = {"23": "X", "24": "Y", "25": "X", "26": "MT"}
"""PLINK's numbers of the chromosomes that are not autosomes; 25 is the pseudo-autosomal region, a part of X."""

X_Y_MT = {"23": "X", "24": "Y", "25": "MT"}
"""GWAS-SSF's numbers of the chromosomes that are not autosomes."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Column names of one kind of file. Names are compared in any case and without a leading `#`.

    Attributes:
        key: what `catalogue.format` calls it.
        name: its name in messages.
        signature: a file has this dialect if it has at least one column of each group.
        columns: for each role (those of MAPPED_ROLES, and n_cases, n_controls, trait, region, test, variant and
            omitted_allele), the names that its column can have, in order of preference.
        named: for each role that the job file names a column for, that name, spelled exactly.
        without: a file with one of these columns has another dialect.
        tests: values of the role `test` that mark results of the variant itself; other rows are `other_test`.
        chromosomes: names of the numbered chromosomes X, Y and MT.
        missing: texts that mean a missing cell, by role; MISSING_VALUES for other roles.
        convert: fills roles from other columns.
        header: column names of a file without a header line.
        as_written: whether columns are those of a record already, so that nothing is computed from them.
        messages: see MESSAGES.
    """

    key: str
    name: str
    signature: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    named: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    tests: frozenset[str] = frozenset()
    chromosomes: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, frozenset[str]] = field(default_factory=lambda: dict.fromkeys(ALLELES, MISSING_ALLELES))
    convert: Callable[[TextColumns], None] | None = None
    header: tuple[str, ...] = ()
    as_written: bool = False
    messages: Mapping[str, str] = field(default_factory=lambda: MESSAGES)

    def recognises(self, names: Sequence[str]) -> bool:
        """Whether a line of column names fits this dialect."""
        plain = set(plain_names(names))
        return all(plain & {n.lower() for n in group} for group in self.signature) and not plain & self.without

    def find_columns(self, names: Sequence[str]) -> dict[str, int]:
        """Index of the column of each role that a file has one for."""
        plain = plain_names(names)
        found = {role: names.index(column) for role, column in self.named.items() if column in names}
        for role, candidates in self.columns.items():
            index = next((plain.index(name.lower()) for name in candidates if name.lower() in plain), None)
            if index is not None:
                found.setdefault(role, index)
        return found


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


def is_mapped(config: CatalogueConfig) -> bool:
    """Whether the job file names columns that a plain table does not have."""
    return bool(set(config.columns) - set(SYNONYMS))


_MISSING_IN_TABLE = frozenset({"", ".", "NA"})
_STUDY_COLUMNS = [name for name in STUDY_SCHEMA.names if name not in ALLELES]

PLAIN_TABLE = Dialect(
    key="table",
    name="TSV or CSV",
    signature=(),
    columns={**SYNONYMS, **{name: (name,) for name in _STUDY_COLUMNS}},
    missing={
        **dict.fromkeys(("chromosome", "position", "reference_allele"), frozenset()),
        **dict.fromkeys(("alternate_allele", "source_id", *_STUDY_COLUMNS), _MISSING_IN_TABLE),
    },
    as_written=True,
    messages=MESSAGES
    | {
        "nul": "{path}, line {line} (record {record}): it holds NUL bytes, so it is no text.",
        "width": "{path}, line {line} (record {record}): {found} cells where the first line has {width}. If this is "
        "its last line, the file is truncated: copy or download it again. Otherwise correct the line.",
        "position": BAD_POSITION,
        "number": "{path}, line {line}: the {role} {cell} is not a number. Correct it, or leave the cell empty or NA.",
        "refusal": "{problem}",
    },
)
"""A TSV or CSV that names the reference allele; study columns are recognised by their names in STUDY_SCHEMA."""

_OF_THE_EFFECT_ALLELE = ("beta", "effect_allele_frequency")


def plain_table(names: Sequence[str], path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of a table that names the reference allele, with the columns that `columns` names."""
    check_roles(config, SYNONYMS)
    found = PLAIN_TABLE.find_columns(names)
    for role in SYNONYMS:
        _check_column(role, names, path, config)
    missing = [role for role in SYNONYMS if role not in {*found, *config.columns, "source_id"}]
    if missing:
        raise VariantFileError(
            f"{path} has no column for {', '.join(missing)}: its first line holds {shown_names(names)}. A table needs "
            "a first line with column names; say which column is which with `columns` in the job file's `catalogue`, "
            f"for example {missing[0]}: NAME. (A VCF needs its header lines: ##fileformat=VCFv4.2 and #CHROM POS ID "
            "REF ALT.)"
        )
    # Effect sizes count as of the alternate allele, so they are left out where a column says otherwise.
    of_other_allele = _OF_THE_EFFECT_ALLELE if {"effect_allele", "other_allele"} & set(plain_names(names)) else ()
    columns = {role: names for role, names in PLAIN_TABLE.columns.items() if role not in of_other_allele}
    return replace(PLAIN_TABLE, columns=columns, named=config.columns)


def _check_column(role: str, names: Sequence[str], path: Path, config: CatalogueConfig) -> None:
    """Check that the column named for a role is there, or that at most one has a usual name of it."""
    if role in config.columns:
        if config.columns[role] not in names:
            raise VariantFileError(
                f"{path} has no column {config.columns[role]!r}, which `columns` gives as its {role}; its columns are "
                f"{', '.join(names[:20])}."
            )
        return
    plain = plain_names(names)
    found = [names[plain.index(synonym)] for synonym in SYNONYMS[role] if synonym in plain]
    if len(found) > 1 and role != "source_id":
        raise VariantFileError(
            f"{path} has several columns that may be its {role}: {', '.join(found)}. Say which with `columns` in the "
            f"job file's `catalogue`, for example {role}: {found[0]}."
        )


def check_roles(config: CatalogueConfig, roles: Collection[str]) -> None:
    """Refuse a job file whose `columns` names other roles."""
    unknown = sorted(set(config.columns) - set(roles))
    if unknown:
        raise ConfigError(f"`columns` has {', '.join(unknown)}, but only these can be named: {', '.join(roles)}.")


def shown_names(names: Sequence[str]) -> str:
    """Column names for a message, the first twelve of them."""
    return ", ".join(repr(name[:30]) for name in names[:12]) + (", ..." if len(names) > 12 else "")
