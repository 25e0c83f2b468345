"""Recognises the dialect of a table by its column names, some of its cells, and what the job file says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.dialects import (
    MAPPED_ROLES,
    MESSAGES,
    NUMBERS,
    SYNONYMS,
    Dialect,
    named_columns,
    plain_names,
    shown_names,
)
from enformer_ray.readers.known_dialects import DIALECTS, GWAS_CATALOG_HARMONISED, PLINK_BIM, REGENIE
from enformer_ray.readers.study_tables import EFFECT, FIRST, IN_EVERY_DIALECT, OTHER, SECOND, TableHead, study_table
from enformer_ray.readers.text import BAD_POSITION

_SITE_ALLELES = ("reference_allele", "alternate_allele")
_BIM_CELLS = 6
_NULL_TEXTS = frozenset({"", ".", "NA"})

PLAIN_TABLE = Dialect(
    key="table",
    name="TSV or CSV",
    signature=(),
    columns={**SYNONYMS, "rsid": ("rsid",), "credible_set": ("credible_set",)},
    missing={
        **dict.fromkeys(("chromosome", "position", "reference_allele"), frozenset()),
        **dict.fromkeys(("alternate_allele", "source_id", "rsid", "credible_set"), _NULL_TEXTS),
    },
    as_written=True,
    messages=MESSAGES
    | {
        "nul": "{path}, line {line} (record {record}): it holds NUL bytes, so it is no text.",
        "width": "{path}, line {line} (record {record}): {found} cells where the first line has {width}. If this is "
        "its last line, the file is truncated: copy or download it again. Otherwise correct the line.",
        "position": BAD_POSITION,
        "refusal": "{problem}",
    },
)
"""A TSV or CSV of sites that names the reference allele."""


def matching_dialects(names: Sequence[str]) -> list[Dialect]:
    """Dialects that a line of column names fits; a `.bim` has no names and is recognised by its first record."""
    if is_bim_line(names):
        return [PLINK_BIM]
    if traits_of(names):
        return [REGENIE]
    return [dialect for dialect in DIALECTS if not dialect.header and dialect.recognises(names)]


def find_dialect(head: TableHead, path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of a file by `format`, else by the cells of its first line, and with the columns of `columns`."""
    names = head.names
    matching = matching_dialects(names)
    if config.format and matching != [REGENIE]:
        matching = [dialect for dialect in DIALECTS if dialect.key == config.format]
        if matching and not matching[0].header and not matching[0].recognises(names):
            raise _lacks_columns(matching[0], names, path)
    if len(matching) > 1:
        raise VariantFileError(
            f"{path} may be of several formats by its column names: {', '.join(d.name for d in matching)}. Say which "
            f"with `format` in the job file's `catalogue`, for example format: {matching[0].key}."
        )
    if not matching:
        return _by_usual_names(head, path, config)
    dialect, named = matching[0], named_columns(names, path, config)
    if dialect is REGENIE and (traits := traits_of(names)):
        named = dict(_of_trait(traits, path, config)) | named
    without_usual = dialect.header or dialect is GWAS_CATALOG_HARMONISED  # whose other columns are as submitted
    return replace(dialect, named=named, usual={} if without_usual else IN_EVERY_DIALECT)


def _by_usual_names(head: TableHead, path: Path, config: CatalogueConfig) -> Dialect:
    found = study_table(head, path, config)
    if found is not None:
        return found
    if config.columns:
        roles = [role for role in MAPPED_ROLES if role in config.columns]
        raise VariantFileError(
            f"{path} is read by the `columns` of the job file, which must name chromosome, position, effect_allele and "
            f"other_allele, where the table has no usual names for them; they name {', '.join(roles)}. Its first line "
            f"holds {shown_names(head.names)}."
        )
    raise VariantFileError(
        f"{path} is of none of the formats of summary statistics that are read here: its first line holds "
        f"{shown_names(head.names)}. {_advice(head.names)} docs/inputs.md lists the formats and the columns."
    )


def _advice(names: Sequence[str]) -> str:
    """Which columns to name, those of its alleles by their names; none that would leave harmonisation out."""
    plain = plain_names(names)

    def one_of(candidates: Sequence[str], otherwise: str) -> str:
        return next((names[plain.index(name)] for name in candidates if name in plain), otherwise)

    effect, other = one_of((*EFFECT, *FIRST), "NAME"), one_of((*OTHER, *SECOND), "NAME")
    place = [role for role in ("chromosome", "position") if not set(SYNONYMS[role]) & set(plain)]
    columns = [f"{role}: NAME" for role in place] + [f"effect_allele: {effect}", f"other_allele: {other}"]
    return (
        f"Say which column is which with `columns` in the job file's `catalogue` (--columns), for example "
        f"{', '.join(columns)}; or `variant`, where all of a variant is in one cell (1:100:A:G)."
    )


def is_study_table(head: TableHead, path: Path, config: CatalogueConfig) -> bool:
    """Whether a table of no known dialect holds results, or names an effect allele, and says of which variants."""
    return study_table(head, path, config) is not None


def plain_table(head: TableHead, path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of a table that names the reference allele, with the columns that `columns` names."""
    names = head.names
    found = study_table(head, path, config, believed=True)
    if found is None:
        raise _no_sites(names, path, config)
    if "variant" in found.named or set(found.named) & {*NUMBERS, "n_cases", "n_controls", "effect_allele"}:
        return replace(found, chromosomes={})
    return replace(PLAIN_TABLE, named={role: found.named[role] for role in PLAIN_TABLE.columns if role in found.named})


def _no_sites(names: Sequence[str], path: Path, config: CatalogueConfig) -> VariantFileError:
    plain = set(plain_names(names))
    places = [r for r in ("chromosome", "position") if r not in config.columns and not set(SYNONYMS[r]) & plain]
    alleles = [r for r in _SITE_ALLELES if r not in config.columns and not set(SYNONYMS[r]) & plain]
    missing = ", ".join([*places, *(["its alleles"] if alleles else [])])
    start = f"{path} has no column for {missing}: its first line holds {shown_names(names)}. "
    if plain & {*EFFECT, *OTHER, *FIRST, *SECOND}:
        return VariantFileError(start + _advice(names))
    return VariantFileError(
        f"{start}A table needs a first line with column names, of an effect and another allele, or of the reference "
        f"and the alternate one. {_advice(names)} (A VCF needs its header lines: ##fileformat=VCFv4.2 and #CHROM POS "
        "ID REF ALT.)"
    )


def _lacks_columns(dialect: Dialect, names: Sequence[str], path: Path) -> VariantFileError:
    lacking = [group for group in dialect.signature if not Dialect("", "", (group,), {}).recognises(names)]
    return VariantFileError(
        f"{path} is read as {dialect.name} (format: {dialect.key}), but has no column "
        f"{', '.join(' or '.join(group) for group in lacking) or 'names of it'}; its first line holds "
        f"{shown_names(names)}. Leave `format` out to have it recognised, or name its columns with `columns`."
    )


def is_bim_line(cells: Sequence[str]) -> bool:
    """Whether the cells of a line are those of a `.bim`."""
    if len(cells) != _BIM_CELLS or not cells[3].lstrip("-").isdigit():
        return False
    alleles = all(cell and not set(cell.upper()) - set("ACGTN012345.-*<>ID") for cell in cells[4:])
    return alleles and cells[2].replace(".", "", 1).replace("-", "").replace("e", "", 1).isdigit()


_OF_TRAIT = re.compile(r"(?P<role>beta|se|log10p|n|a1freq)\.(?P<trait>.+)", re.IGNORECASE)
_TRAIT_ROLES = {
    "beta": "beta",
    "se": "standard_error",
    "log10p": "neg_log_10_p_value",
    "n": "n",
    "a1freq": "effect_allele_frequency",
}


def traits_of(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns by role of each trait of REGENIE's `--no-split` files (`BETA.Y1`, `LOG10P.Y1`); empty for others."""
    plain = plain_names(names)
    if not {"genpos", "allele0", "allele1"} <= set(plain) or "log10p" in plain:
        return {}
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _OF_TRAIT.fullmatch(name.strip()):
            found.setdefault(match["trait"], {})[_TRAIT_ROLES[match["role"].lower()]] = name
    return {trait: roles for trait, roles in found.items() if "neg_log_10_p_value" in roles}


def _of_trait(traits: Mapping[str, Mapping[str, str]], path: Path, config: CatalogueConfig) -> Mapping[str, str]:
    """The columns of the trait that the job names."""
    if config.trait is not None and config.trait in traits:
        return traits[config.trait]
    asked = "" if config.trait is None else f"no trait {config.trait!r} (--trait), but "
    shown = ", ".join(list(traits)[:20]) + (f" and {len(traits) - 20} more" if len(traits) > 20 else "")
    example = next(iter(traits))
    raise VariantFileError(
        f"{path} has {asked}columns of results of {len(traits)} {'trait' if len(traits) == 1 else 'traits'}: {shown} "
        f"({traits[example]['neg_log_10_p_value']}, ...). Name the one to read with --trait (`trait` in the job file's "
        f"`catalogue`), for example --trait {example}."
    )
