"""What a dialect is: the column names of one tool, and the few conversions that its columns need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

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
