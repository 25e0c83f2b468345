"""Dialects of text tables: what the columns of one kind of file are called, and how its cells are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError

TextColumns = dict[str, pa.StringArray]
"""Columns of text by role; a missing value is null."""

NUMBERS = (
    "beta",
    "odds_ratio",
    "hazard_ratio",
    "z_score",
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
    "variant",
    "effect_allele",
    "other_allele",
    *NUMBERS,
    "credible_set",
    "rsid",
)
"""Roles that `columns` in the job file can name; `variant` is all of a variant in one cell, as 1:100:A:G."""

SITE_ROLES = tuple(role for role in MAPPED_ROLES if role not in ("effect_allele", "other_allele"))
"""Those of a table that is read as one that names the reference allele."""

# In order of preference. allele1, a1 and their like are left out: which of a pair is the reference differs from tool to
# tool.
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

VARIANT = (
    r"^(?P<chromosome>[^:]+?)[:_-](?P<position>[0-9]+)[:_-]"
    r"(?P<other_allele>[A-Za-z*]+)[:_/>-](?P<effect_allele>[A-Za-z*]+)(?:[:_]b[0-9]+)?$"
)
"""A variant in one cell, reference before alternate: 1:100:A:G, chr1_100_A_G, 1-100-A-G, chr1_100_A_G_b38 (GTEx)."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Column names of one kind of file. Names are compared in any case and without a leading `#`.

    Attributes:
        key: what `catalogue.format` calls it.
        name: its name in messages.
        signature: a file has this dialect if it has at least one column of each group.
        columns: for each role (those of MAPPED_ROLES, and n_cases, n_controls, trait, region, test, variant and
            omitted_allele), the names that its column can have, in order of preference.
        named: for some roles the name of the column, as it stands in the file.
        usual: as `columns`, of roles that are read from a column of the usual name where `columns` has found none.
        without: a file with one of these columns has another dialect.
        tests: values of the role `test` that mark results of the variant itself; other rows are `other_test`.
        chromosomes: names of the numbered chromosomes X, Y and MT.
        missing: texts that mean a missing cell, by role; MISSING_VALUES for other roles.
        convert: fills roles from other columns.
        header: column names of a file without a header line.
        as_written: whether columns are those of a record already, so that nothing is computed from them.
        names_reference: the other allele is in a column that is called the reference.
        rule: which allele counts as the effect allele and why, where names alone do not say it.
        messages: see MESSAGES.
    """

    key: str
    name: str
    signature: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    named: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    tests: frozenset[str] = frozenset()
    chromosomes: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, frozenset[str]] = field(default_factory=lambda: dict.fromkeys(ALLELES, MISSING_ALLELES))
    convert: Callable[[TextColumns], None] | None = None
    header: tuple[str, ...] = ()
    as_written: bool = False
    names_reference: bool = False
    rule: str = ""
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
        taken = set(found.values())
        for role, candidates in self.usual.items():
            index = next((plain.index(name) for name in candidates if name in plain), None)
            if index is not None and index not in taken:
                found.setdefault(role, index)
        return found


def plain_names(names: Sequence[str]) -> list[str]:
    """Column names in lower case, without quotes, a byte-order mark and a leading `#`."""
    return [_bare(name).lower() for name in names]


def _bare(name: str) -> str:
    return name.strip().strip('"').lstrip("\ufeff").removeprefix("#").strip()


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


def tested_against(tested: pa.StringArray, reference: pa.StringArray, alternates: pa.StringArray) -> pa.StringArray:
    """The other of two alleles than the tested one; null where it is neither. `A,C` are several alternate alleles."""
    is_alternate = pc.equal(tested, alternates)
    is_reference = pc.and_(pc.equal(tested, reference), pc.invert(pc.match_substring(alternates, ",")))
    other = pc.case_when(pc.make_struct(is_alternate, is_reference), reference, alternates)
    among = pc.is_null(other)
    if not pc.any(among).as_py():
        return other
    # A site of several alternate alleles: one is tested against all others, for which the reference allele is given.
    several = pa.array(
        [
            ref if allele is not None and allele in (alts or "").split(",") else None
            for allele, ref, alts in zip(tested.to_pylist(), reference.to_pylist(), alternates.to_pylist(), strict=True)
        ],
        pa.string(),
    )
    return pc.if_else(among, several, other)


def is_mapped(config: CatalogueConfig) -> bool:
    """Whether the job file names columns that a plain table does not have."""
    return bool(set(config.columns) - set(SYNONYMS))


def find_name(wanted: str, names: Sequence[str]) -> str | None:
    """The column that the job file calls `wanted`: spelled as in the file, or so but for a leading `#` and blanks."""
    if wanted in names:
        return wanted
    bare = [_bare(name) for name in names]
    return names[bare.index(_bare(wanted))] if _bare(wanted) in bare else None


def named_columns(
    names: Sequence[str], path: Path, config: CatalogueConfig, roles: Collection[str] = MAPPED_ROLES
) -> dict[str, str]:
    """The columns that the job file names, by role and as they stand in the file; refuses others than the `roles`."""
    check_roles(config, roles)
    found = {role: find_name(name, names) for role, name in config.columns.items()}
    for role, name in found.items():
        if name is None:
            raise VariantFileError(
                f"{path} has no column {config.columns[role]!r}, which `columns` gives as its {role}; its first line "
                f"holds {shown_names(names)}."
            )
    return {role: name for role, name in found.items() if name is not None}


def check_roles(config: CatalogueConfig, roles: Collection[str]) -> None:
    """Refuse a job file whose `columns` names other roles."""
    unknown = sorted(set(config.columns) - set(roles))
    if unknown:
        raise ConfigError(f"`columns` has {', '.join(unknown)}, but only these can be named: {', '.join(roles)}.")


def shown_names(names: Sequence[str]) -> str:
    """Column names for a message, the first twelve of them."""
    return ", ".join(repr(name[:30]) for name in names[:12]) + (", ..." if len(names) > 12 else "")
