"""Tables of no known program: what their columns are by the usual names, and which allele the effects are of.

Which of `A1` and `A2` is the effect allele differs between programs: it is A1 in PLINK, METAL, LDSC, GCTA and GEMMA,
and Allele2 in SAIGE, which is a dialect of its own. So A1 is it here, and the plan's summary says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import floats
from enformer_ray.readers.dialects import (
    MISSING_VALUES,
    NUMBERS,
    SITE_ROLES,
    SYNONYMS,
    VARIANT,
    X_Y_XY_MT,
    Dialect,
    TextColumns,
    named_columns,
    plain_names,
    split_variant,
    tested_against,
)

KEY, NAME = "sumstats", "summary statistics by the usual names"

EFFECT = ("effect_allele", "ea", "effectallele", "tested_allele", "coded_allele", "risk_allele")
OTHER = (
    "other_allele",
    "nea",
    "non_effect_allele",
    "noneffect_allele",
    "noneffectallele",
    "oa",
    "otherallele",
    "noncoded_allele",
    "non_coded_allele",
)
FIRST, SECOND = ("a1", "allele1", "allele_1"), ("a2", "allele2", "allele_2", "a0", "allele0", "allele_0")
"""Numbered alleles: the effect allele, and the one that it is compared with."""

FREQUENCY = ("effect_allele_frequency", "eaf", "effect_allele_freq", "freq_effect_allele")
FREQUENCY_OF_FIRST = ("a1freq", "a1_freq", "freq_a1", "af_a1", "freq1", "af1", "frq", "freq")
_FREQUENCY_OF_SECOND = ("af_allele2", "ac_allele2")
"""SAIGE's, of its effect allele."""

FREQUENCY_OF_ALTERNATE = ("af", "af_alt", "alt_freq", "alt_freqs", "alt_af", "aaf")

USUAL: Mapping[str, tuple[str, ...]] = {
    "standard_error": (
        *("standard_error", "se", "sebeta", "stderr", "std_err", "std_error", "se_beta", "beta_se", "slope_se"),
        *("log(or)_se", "log_or_se", "logor_se"),
    ),
    "p_value": (
        *("p_value", "p", "pval", "pvalue", "p-value", "p.value", "p_val", "p-val", "pval_nominal", "p_wald"),
        *("p_bolt_lmm", "p_bolt_lmm_inf", "p_linreg"),
    ),
    "neg_log_10_p_value": (
        *("neg_log_10_p_value", "log10p", "neg_log10_p", "neglog10p", "neg_log10p", "neglog10_p", "neglog10_pval"),
        *("mlog10p", "mlogp", "nlog10p", "log10_p", "minus_log10_p", "-log10p", "-log10(p)"),
    ),
    "odds_ratio": ("odds_ratio", "or", "oddsratio"),
    "hazard_ratio": ("hazard_ratio", "hr"),
    "z_score": ("z_score", "z", "zscore", "z-score", "z_stat", "zstat"),
    "n": (
        *("n", "n_total", "ntotal", "n_samples", "num_samples", "obs_ct", "sample_size", "samplesize", "totaln"),
        *("n_complete_samples", "ns", "nmiss"),
    ),
    "n_cases": ("n_cases", "n_case", "ncases", "ncase", "nca", "num_cases"),
    "n_controls": ("n_controls", "n_control", "n_ctrl", "ncontrols", "ncontrol", "nco", "num_controls"),
    "rsid": ("rsid", "rs_id", "rsids", "rs", "rs_number"),
}
"""Names of columns in lower case, by role, that mean the same in every table."""

IN_EVERY_DIALECT = {**USUAL, "effect_allele_frequency": FREQUENCY}
"""What a known dialect is read for, too."""

_PLACE = {
    "chromosome": ("chr_name",),
    "position": ("chr_position", "bpos", "ps", "beg", "begin", "genpos"),
}
_STUDY = {
    **USUAL,
    "beta": ("beta", "b", "effect", "effect_size", "log_odds", "logodds", "log_or", "logor", "log(or)", "slope", "es"),
    "pip": ("pip",),
    "credible_set": ("credible_set",),
}
_VARIANTS = (
    *("variant", "variantid", "variant_id", "snp", "snpid", "snp_id", "markername", "marker", "marker_id", "markerid"),
    *("id", "varid", "source_id", "rsid", "name", "chr_pos_ref_alt", "cpra"),
)
_PLACE_IN_NAME = r"^(?P<chromosome>(?:chr)?(?:[0-9]{1,2}|X|Y|XY|M|MT)):(?P<position>[0-9]+)(?:[:_].*)?$"
"""The name that METAL's users give a variant: 1:100, perhaps with more behind it."""

_IDENTIFIERS = (*SYNONYMS["source_id"], *_VARIANTS, "rs")
_EFFECTS = ("beta", "odds_ratio", "hazard_ratio", "z_score")
_NUMBERS = frozenset({*NUMBERS, "n_cases", "n_controls"})
_RESULTS = frozenset({*_EFFECTS, "p_value", "neg_log_10_p_value"})
_ALLELE_ROLES = ("reference_allele", "alternate_allele", "effect_allele", "other_allele")
_OF_FIRST = (
    "the first of two numbered alleles counts as the effect allele, as in PLINK, METAL, LDSC and GCTA; if it is not, "
    "name effect_allele and other_allele with `columns`"
)


class TableHead(NamedTuple):
    """The beginning of a table.

    Attributes:
        names: of its columns, as they stand in the file.
        sample: cells of the first rows, by column; columns may be left out.
    """

    names: Sequence[str]
    sample: Mapping[str, Sequence[str]] = {}


class _Columns:
    """Columns of a table by role, those that the job file names first.

    Attributes:
        head: the table.
        path: the same, for errors.
        roles: name of the column of each role that has been found.
        has_alleles: whether the column of variants holds alleles, and not the place alone.
    """

    def __init__(self, head: TableHead, path: Path, named: Mapping[str, str]) -> None:
        self.head, self.path, self.roles = head, path, dict(named)
        self.has_alleles = "variant" in named
        self._plain = plain_names(head.names)

    def first(self, candidates: Sequence[str], fits: Callable[[pa.StringArray], bool] | None = None) -> str | None:
        """The column with the first of these names that the table has, and whose first cells fit, if there are any."""
        for name in candidates:
            if name in self._plain:
                column = self.head.names[self._plain.index(name)]
                cells = [cell for cell in self.head.sample.get(column, ()) if cell.strip() not in MISSING_VALUES]
                if fits is None or not cells or fits(pa.array(cells, pa.string())):
                    return column
        return None

    def take(self, role: str, candidates: Sequence[str]) -> str | None:
        """The column of a role: the named one, else the first that has one of these names."""
        if (
            role not in self.roles
            and (name := self.first(candidates, _are_numbers if role in _NUMBERS else None)) is not None
        ):
            self.roles[role] = name
        return self.roles.get(role)

    def take_one(self, role: str) -> None:
        """As `take`, of the names of a place; of two it may be that one is of another assembly."""
        found = [name for name, plain in zip(self.head.names, self._plain, strict=True) if plain in SYNONYMS[role]]
        if role not in self.roles and len(set(found)) > 1:
            raise VariantFileError(
                f"{self.path} has several columns that may be its {role}: {', '.join(found)}. Say which with "
                f"`columns` in the job file's `catalogue`, for example {role}: {found[0]}."
            )
        self.take(role, (*SYNONYMS[role], *_PLACE[role]))

    def take_variant(self) -> None:
        """Take the column that has all of a variant in a cell, by its name and its cells, or its place."""
        for pattern in (VARIANT, _PLACE_IN_NAME):
            for name, plain in zip(self.head.names, self._plain, strict=True):
                cells = pa.array(self.head.sample.get(name, ()), pa.string())
                fits = plain in _VARIANTS and pc.any(pc.match_substring_regex(cells, pattern)).as_py()
                if fits and "variant" not in self.roles:
                    self.roles["variant"] = name
                    self.has_alleles = pattern == VARIANT


def _are_numbers(cells: pa.StringArray) -> bool:
    """Whether some cells are: `effect` may be a consequence, and `p` an arm of a chromosome."""
    return not floats(cells)[1].all()


def _are_alleles(cells: pa.StringArray) -> bool:
    """Whether some cells are: `EA` may be a population."""
    return bool(pc.any(pc.match_substring_regex(cells, r"^\s*[ACGTNacgtn]+\s*$")).as_py())


def study_table(head: TableHead, path: Path, config: CatalogueConfig, believed: bool = False) -> Dialect | None:
    """The dialect of a table by its usual names and those that `columns` gives; None if it says too little.

    Args:
        head: its names, and some cells.
        path: the table, for errors.
        config: `columns`.
        believed: the table names the reference allele; so it does also where `columns` names a column for it.
    """
    columns = _Columns(head, path, named_columns(head.names, path, config, *([SITE_ROLES] if believed else [])))
    believed = believed or bool({"reference_allele", "alternate_allele"} & set(columns.roles))
    for role in ("chromosome", "position"):
        columns.take_one(role)
    for role, names in _STUDY.items():
        columns.take(role, names)
    columns.take_variant()
    if not {"chromosome", "position"} <= set(columns.roles) and "variant" not in columns.roles:
        return None
    alleles = _alleles(columns, believed)
    if alleles is None:
        return None
    needed = "variant" in {*alleles.roles, *config.columns} or not {"chromosome", "position"} <= set(columns.roles)
    if not needed:  # then it is a name
        columns.roles.pop("variant", None)
    columns.roles.update(alleles.roles)
    turned = _take_frequency(columns, alleles)
    columns.take("source_id", _IDENTIFIERS)
    tests = _take_test(columns)
    return Dialect(
        key="table" if believed else KEY,
        name="TSV or CSV" if believed else NAME,
        signature=(),
        columns={},
        named=columns.roles,
        tests=tests,
        chromosomes=X_Y_XY_MT,
        convert=partial(_convert, alleles=alleles, turned=turned),
        names_reference=alleles.names_reference,
        rule=alleles.rule,
    )


class _Alleles(NamedTuple):
    """Where the alleles of a table come from.

    Attributes:
        roles: their columns.
        missing: the role that is the one of a pair (reference and alternate, or of `variant`) that is not stated.
        believed: the pair stays as reference and alternate.
        names_reference: the other allele is called the reference.
        rule: see `Dialect.rule`.
    """

    roles: dict[str, str]
    missing: str | None = None
    believed: bool = False
    names_reference: bool = False
    rule: str = ""


def _alleles(columns: _Columns, believed: bool) -> _Alleles | None:
    """The alleles of a table, or None if it does not say them, or not of which one the results are."""
    roles = columns.roles
    effect, other = (
        roles.get("effect_allele") or columns.first(EFFECT, _are_alleles),
        roles.get("other_allele") or columns.first(OTHER, _are_alleles),
    )
    first, second, pair = *_numbered(columns), _pair(columns)
    stated = {role: name for role, name in (("effect_allele", effect), ("other_allele", other)) if name is not None}
    has_results = bool(_RESULTS & set(roles))
    rule = ""
    if not stated and first and second and has_results:
        stated = {"effect_allele": first, "other_allele": second}
        rule = "" if columns.first(_FREQUENCY_OF_SECOND) else _OF_FIRST
    elif not stated and first and pair and has_results:  # PLINK 2: the one of REF and ALT that is tested
        stated = {"effect_allele": first}
    elif len(stated) == 1 and pair is None and first and second:
        pair = {"reference_allele": first, "alternate_allele": second}
    missing = None if len(stated) != 1 else "other_allele" if "effect_allele" in stated else "effect_allele"
    if believed:
        return None if pair is None else _Alleles(stated | pair, missing, believed=True, rule=rule)
    if len(stated) == 2:
        return _Alleles(stated, rule=rule)
    if pair is None or not (stated or has_results):
        return None
    if stated:
        return _Alleles(stated | pair, missing)
    if "variant" in pair:
        return _Alleles(pair)
    reference = {"other_allele": pair["reference_allele"], "effect_allele": pair["alternate_allele"]}
    return _Alleles(reference, names_reference=True)


def _numbered(columns: _Columns) -> tuple[str | None, str | None]:
    """The numbered alleles, the one that results are of first."""
    first, second = columns.first(FIRST), columns.first(SECOND)
    return (second, first) if columns.first(_FREQUENCY_OF_SECOND) else (first, second)


def _pair(columns: _Columns) -> dict[str, str] | None:
    """Columns of two alleles, the reference and the alternate one by name, or in a variant."""
    found = {
        role: columns.roles.get(role) or columns.first(SYNONYMS[role])
        for role in ("reference_allele", "alternate_allele")
    }
    pair = {role: name for role, name in found.items() if name is not None}
    if len(pair) == 2:
        return pair
    return {"variant": columns.roles["variant"]} if columns.has_alleles else None


def _take_frequency(columns: _Columns, alleles: _Alleles) -> bool:
    """Take the column of allele frequencies; whether they are of the alternate allele, and to be turned for the other.

    A frequency of a minor allele (`MAF`) is of neither, and not taken.
    """
    if columns.take("effect_allele_frequency", FREQUENCY) is not None:
        return False
    first, _ = _numbered(columns)
    if first is None or first == alleles.roles.get("effect_allele"):
        second = _FREQUENCY_OF_SECOND[:1] if columns.first(_FREQUENCY_OF_SECOND) else ()
        if columns.take("effect_allele_frequency", (*second, *FREQUENCY_OF_FIRST)) is not None:
            return False
    alternate = columns.first(SYNONYMS["alternate_allele"])
    if columns.take("effect_allele_frequency", FREQUENCY_OF_ALTERNATE) is None:
        return False
    stated = {"effect_allele", "other_allele"} & set(alleles.roles)
    if alternate is None or not stated or alleles.roles.get("effect_allele") == alternate:
        return False
    columns.roles["alternate_of_frequency"] = alternate
    return True


def _take_test(columns: _Columns) -> frozenset[str]:
    """Take the column of tests, where some of the first rows are of the additive one: rows of others are left out."""
    name = columns.first(("test",))
    if name is None or "ADD" not in columns.head.sample.get(name, ()):
        return frozenset()
    columns.roles["test"] = name
    return frozenset({"ADD"})


def _convert(cells: TextColumns, alleles: _Alleles, turned: bool) -> None:
    """Fill the roles of place and alleles from other columns, and turn the frequencies of other alleles."""
    for role in ("chromosome", *_ALLELE_ROLES):
        if role in cells:
            cells[role] = pc.utf8_trim_whitespace(cells[role])
    if "variant" in cells:
        _split(cells, alleles)
    if alleles.missing is not None:
        stated = "effect_allele" if alleles.missing == "other_allele" else "other_allele"
        pair = (cells["reference_allele"], cells["alternate_allele"])
        cells[alleles.missing] = tested_against(*map(pc.utf8_upper, (cells[stated], *pair)))
    if not alleles.believed:
        cells.pop("reference_allele", None)
        cells.pop("alternate_allele", None)
    if turned:
        alternate = pc.utf8_upper(cells.pop("alternate_of_frequency"))
        of_effect, of_other = (pc.equal(pc.utf8_upper(cells[r]), alternate) for r in ("effect_allele", "other_allele"))
        frequency = _turned(cells["effect_allele_frequency"], of_other)
        cells["effect_allele_frequency"] = pc.if_else(pc.or_(of_effect, of_other), frequency, None)


def _split(cells: TextColumns, alleles: _Alleles) -> None:
    text = cells.pop("variant")
    name = pc.utf8_trim_whitespace(text)
    parts, place = split_variant(name, VARIANT), split_variant(name, _PLACE_IN_NAME)
    cells.setdefault("source_id", text)
    for role in ("chromosome", "position"):
        found = pc.coalesce(parts[role], place[role])
        cells[role] = pc.coalesce(cells[role], found) if role in cells else found
    if "variant" not in alleles.roles:
        return
    if alleles.missing is not None or alleles.believed:
        cells["reference_allele"], cells["alternate_allele"] = parts["other_allele"], parts["effect_allele"]
    else:
        cells["other_allele"], cells["effect_allele"] = parts["other_allele"], parts["effect_allele"]


def _turned(text: pa.StringArray, where: pa.BooleanArray) -> pa.StringArray:
    """Frequencies f, and 1 - f in some rows; what is no number stays, for the check of numbers to name it."""
    rows = pc.fill_null(pc.and_(where, pc.is_valid(text)), False)
    if not pc.any(rows).as_py():
        return text
    return pc.replace_with_mask(text, rows, pa.array([_one_minus(cell) for cell in text.filter(rows).to_pylist()]))


def _one_minus(cell: str) -> str:
    try:
        frequency = float(cell)
    except ValueError:
        return cell
    return repr(1 - frequency) if 0 <= frequency <= 1 else cell
