"""Credible-set tables: the eQTL Catalogue's, and any table with a probability, a credible set and named alleles.

Source: github.com/eQTL-Catalogue/eQTL-Catalogue-resources (`{dataset}.credible_sets.tsv.gz`): `molecular_trait_id
gene_id cs_id variant rsid cs_size pip pvalue beta se z cs_min_r2 region`, with variants as `chr1_108004887_G_T`
(reference, then alternate, which is the effect allele) on GRCh38.

Other tables need columns whose names leave no doubt which allele is the effect allele; allele1 and allele2 differ
from tool to tool and want `columns` in the job file. A credible set that is only a number is joined to the trait and
the region where the table has them, as sets are numbered anew in each region.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect, TextColumns, join_texts, split_variant

_VARIANT = (
    r"^(?P<chromosome>[^_:]+)[_:](?P<position>[0-9]+)[_:]"
    r"(?P<other_allele>[A-Za-z*]+)[_:/](?P<effect_allele>[A-Za-z*]+)$"
)

_PIP = ("pip", "posterior_inclusion_probability", "posterior_probability", "posterior_prob", "postprob", "prob")
_CREDIBLE_SET = ("credible_set", "credible_set_id", "cs_id", "cs")


def _variant_alleles(cells: TextColumns) -> None:
    cells["source_id"] = cells["variant"]
    cells.update(split_variant(cells.pop("variant"), _VARIANT))


def _name_sets(cells: TextColumns) -> None:
    number = cells["credible_set"]
    outside = pc.is_in(number, value_set=pa.array(["-1", "0"]))
    parts = [cells[role] for role in ("trait", "region") if role in cells]
    named = join_texts((*parts, number), pc.invert(outside))
    is_number = pc.match_substring_regex(number, "^-?[0-9]+$")
    cells["credible_set"] = pc.if_else(is_number, named, number)


EQTL_CATALOGUE = Dialect(
    key="eqtl-catalogue",
    name="eQTL Catalogue credible sets",
    signature=(("molecular_trait_id",), ("cs_id",), ("variant",), ("pip",)),
    columns={
        "variant": ("variant",),
        "rsid": ("rsid",),
        "p_value": ("pvalue",),
        "beta": ("beta",),
        "standard_error": ("se",),
        "pip": ("pip",),
        "credible_set": ("cs_id",),
    },
    convert=_variant_alleles,
)

CREDIBLE_SETS = Dialect(
    key="credible-sets",
    name="credible-set table",
    signature=(
        ("chromosome", "chrom", "chr"),
        ("position", "pos", "bp"),
        ("effect_allele", "alt", "alternate_allele", "alt_allele"),
        ("other_allele", "non_effect_allele", "ref", "reference_allele", "ref_allele"),
        _PIP,
        _CREDIBLE_SET,
    ),
    without=frozenset({"base_pair_location", "molecular_trait_id"}),
    columns={
        "chromosome": ("chromosome", "chrom", "chr"),
        "position": ("position", "pos", "bp"),
        "effect_allele": ("effect_allele", "alt", "alternate_allele", "alt_allele"),
        "other_allele": ("other_allele", "non_effect_allele", "ref", "reference_allele", "ref_allele"),
        "source_id": ("variant_id", "variant", "snp", "id", "rsid"),
        "rsid": ("rsid", "rs_id"),
        "trait": ("trait", "phenotype", "study"),
        "region": ("region", "locus"),
        "beta": ("beta",),
        "standard_error": ("standard_error", "se"),
        "p_value": ("p_value", "pvalue", "pval", "p"),
        "effect_allele_frequency": ("effect_allele_frequency", "eaf"),
        "n": ("n",),
        "pip": _PIP,
        "credible_set": _CREDIBLE_SET,
    },
    chromosomes=X_Y_XY_MT,
    convert=_name_sets,
)
