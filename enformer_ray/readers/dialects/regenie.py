"""REGENIE, step 2.

Source: rgcgithub.github.io/regenie/options (output of step 2): separated by spaces, ALLELE0 is the reference allele
of the genotype file and ALLELE1 the effect allele, A1FREQ its frequency, LOG10P the negative decadic logarithm of the
p-value, NA for what was not computed. Rows of TEST other than ADD (DOM, REC, ADD-CONDTL, interactions, gene-based
masks) are no additive results of one variant.
"""

from __future__ import annotations

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect

REGENIE = Dialect(
    key="regenie",
    name="REGENIE",
    signature=(("chrom",), ("genpos",), ("allele0",), ("allele1",), ("log10p",)),
    columns={
        "chromosome": ("chrom",),
        "position": ("genpos",),
        "source_id": ("id",),
        "other_allele": ("allele0",),
        "effect_allele": ("allele1",),
        "effect_allele_frequency": ("a1freq",),
        "n": ("n",),
        "test": ("test",),
        "beta": ("beta",),
        "standard_error": ("se",),
        "neg_log_10_p_value": ("log10p",),
    },
    tests=frozenset({"ADD"}),
    chromosomes=X_Y_XY_MT,
)
