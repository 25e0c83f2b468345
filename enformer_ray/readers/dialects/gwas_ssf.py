"""GWAS-SSF, the format of the GWAS Catalog, as submitted and harmonised (`.h.tsv.gz`), and its predecessor.

Sources: github.com/EBISPOT/gwas-summary-statistics-standard (specification 1.0; 1.1.0 in gwas-ssf_v1.1.0.tex): tab
separated, `#NA` for a missing value, either `p_value` or `neg_log_10_p_value`, one of `beta`, `odds_ratio` and
`hazard_ratio`, chromosomes 1-25 with X = 23, Y = 24, MT = 25. Harmonised files before GWAS-SSF keep the submitted
columns and add `hm_` ones on GRCh38 (github.com/EBISPOT/gwas-sumstats-harmoniser); those are read. `odds_ratio` and
`hazard_ratio` give beta = ln(ratio); `standard_error` is taken as it stands.
"""

from __future__ import annotations

from enformer_ray.readers.dialects.base import X_Y_MT, Dialect

_NUMBERS = {
    "standard_error": ("standard_error",),
    "p_value": ("p_value",),
    "neg_log_10_p_value": ("neg_log_10_p_value",),
    "n": ("n",),
}

GWAS_SSF = Dialect(
    key="gwas-ssf",
    name="GWAS-SSF",
    signature=(
        ("chromosome",),
        ("base_pair_location",),
        ("effect_allele",),
        ("other_allele",),
        ("p_value", "neg_log_10_p_value"),
    ),
    without=frozenset({"hm_chrom"}),
    columns={
        "chromosome": ("chromosome",),
        "position": ("base_pair_location",),
        "effect_allele": ("effect_allele",),
        "other_allele": ("other_allele",),
        "source_id": ("variant_id", "rsid", "rs_id"),
        "rsid": ("rsid", "rs_id"),
        "beta": ("beta",),
        "odds_ratio": ("odds_ratio",),
        "hazard_ratio": ("hazard_ratio",),
        "effect_allele_frequency": ("effect_allele_frequency",),
        "pip": ("pip",),
        "credible_set": ("credible_set",),
        **_NUMBERS,
    },
    chromosomes=X_Y_MT,
)

GWAS_CATALOG_HARMONISED = Dialect(
    key="gwas-catalog-hm",
    name="GWAS Catalog harmonised, before GWAS-SSF",
    signature=(("hm_chrom",), ("hm_pos",), ("hm_effect_allele",), ("hm_other_allele",)),
    columns={
        "chromosome": ("hm_chrom",),
        "position": ("hm_pos",),
        "effect_allele": ("hm_effect_allele",),
        "other_allele": ("hm_other_allele",),
        "source_id": ("hm_variant_id", "hm_rsid"),
        "rsid": ("hm_rsid",),
        "beta": ("hm_beta",),
        "odds_ratio": ("hm_odds_ratio",),
        "effect_allele_frequency": ("hm_effect_allele_frequency",),
        **_NUMBERS,
    },
    chromosomes=X_Y_MT,
)
