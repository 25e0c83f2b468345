"""SAIGE, step 2, single variants.

Source: saigegit.github.io/SAIGE-doc/docs/single_step2.html: tab separated, BETA and AF_Allele2 are of Allele2,
p.value is after the saddle-point approximation (p.value.NA before it). Binary traits have N_case and N_ctrl,
quantitative ones N. Versions before 1.0 call the identifier SNPID (or rsid) and separate by spaces.
"""

from __future__ import annotations

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect

SAIGE = Dialect(
    key="saige",
    name="SAIGE",
    signature=(("chr",), ("pos",), ("allele1",), ("allele2",), ("af_allele2", "ac_allele2"), ("p.value",)),
    columns={
        "chromosome": ("chr",),
        "position": ("pos",),
        "source_id": ("markerid", "snpid", "rsid"),
        "rsid": ("rsid",),
        "other_allele": ("allele1",),
        "effect_allele": ("allele2",),
        "effect_allele_frequency": ("af_allele2",),
        "beta": ("beta",),
        "standard_error": ("se",),
        "p_value": ("p.value",),
        "n": ("n",),
        "n_cases": ("n_case", "n.cases"),
        "n_controls": ("n_ctrl", "n.controls"),
    },
    chromosomes=X_Y_XY_MT,
)
