"""BOLT-LMM, association statistics (`--statsFile`, `--statsFileBgenSnps`).

Source: alkesgroup.broadinstitute.org/BOLT-LMM/BOLT-LMM_manual.html, section "Association test statistics output": tab
separated, ALLELE1 is the effect allele and A1FREQ its frequency, ALLELE0 the other; P_BOLT_LMM is the p-value of the
non-infinitesimal model where it was run, else P_BOLT_LMM_INF; P_LINREG is that of plain regression and is the last
resort. The manual's header reads SNP CHR BP GENPOS ALLELE1 ALLELE0 A1FREQ F_MISS ...; GENPOS is a genetic position.
"""

from __future__ import annotations

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect

BOLT_LMM = Dialect(
    key="bolt-lmm",
    name="BOLT-LMM",
    signature=(
        ("snp",),
        ("chr",),
        ("bp",),
        ("allele1",),
        ("allele0",),
        ("p_bolt_lmm", "p_bolt_lmm_inf", "p_linreg"),
    ),
    columns={
        "chromosome": ("chr",),
        "position": ("bp",),
        "source_id": ("snp",),
        "effect_allele": ("allele1",),
        "other_allele": ("allele0",),
        "effect_allele_frequency": ("a1freq",),
        "beta": ("beta",),
        "standard_error": ("se",),
        "p_value": ("p_bolt_lmm", "p_bolt_lmm_inf", "p_linreg"),
    },
    chromosomes=X_Y_XY_MT,
)
