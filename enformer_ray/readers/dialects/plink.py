"""PLINK 2 association results (`.glm.linear`, `.glm.logistic`, `.glm.logistic.hybrid`, `.glm.firth`) and PLINK `.bim`.

Source: cog-genomics.org/plink/2.0/formats (glm_linear, glm_logistic) and /plink/1.9/formats (bim). In `.glm` files A1
is the tested allele and A1_FREQ its frequency; BETA, or OR with LOG(OR)_SE; OMITTED (newer versions) is the allele
that A1 is tested against, else the one of REF and ALT that is not A1; P, or NEG_LOG10_P (LOG10_P in earlier versions)
with the modifier `log10`. Each covariate has a row of its own: only TEST = ADD is the variant. A `.bim` has no
header: chromosome, identifier, centimorgans, position, A1 (usually the minor allele), A2; `0` is a missing allele. It
says nothing of effects, so A1 is taken as the effect allele and A2 as the other one.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect, TextColumns


def _other_allele(cells: TextColumns) -> None:
    """The allele that A1 is tested against."""
    tested, reference, alternates = cells["effect_allele"], cells.pop("reference_allele"), cells.pop("alternate_allele")
    omitted = cells.pop("omitted_allele", None)
    is_alternate = pc.equal(tested, alternates)
    is_reference = pc.and_(pc.equal(tested, reference), pc.invert(pc.match_substring(alternates, ",")))
    other = pc.case_when(pc.make_struct(is_alternate, is_reference), reference, alternates)
    among = pc.is_null(other)
    if pc.any(among).as_py():
        # A site of several alternate alleles: one of them against all others, which the reference allele stands for.
        several = pa.array(
            [
                ref if allele is not None and allele in (alts or "").split(",") else None
                for allele, ref, alts in zip(
                    tested.to_pylist(), reference.to_pylist(), alternates.to_pylist(), strict=True
                )
            ],
            pa.string(),
        )
        other = pc.if_else(among, several, other)
    cells["other_allele"] = other if omitted is None else pc.coalesce(omitted, other)


PLINK2_GLM = Dialect(
    key="plink2-glm",
    name="PLINK2 .glm",
    signature=(("chrom",), ("pos",), ("ref",), ("alt",), ("a1",), ("test",), ("obs_ct", "p", "neg_log10_p", "log10_p")),
    columns={
        "chromosome": ("chrom",),
        "position": ("pos",),
        "source_id": ("id",),
        "reference_allele": ("ref",),
        "alternate_allele": ("alt",),
        "effect_allele": ("a1",),
        "omitted_allele": ("omitted",),
        "effect_allele_frequency": ("a1_freq",),
        "test": ("test",),
        "n": ("obs_ct",),
        "beta": ("beta",),
        "odds_ratio": ("or",),
        "standard_error": ("log(or)_se", "se"),
        "p_value": ("p",),
        "neg_log_10_p_value": ("neg_log10_p", "log10_p"),
    },
    tests=frozenset({"ADD"}),
    chromosomes=X_Y_XY_MT,
    convert=_other_allele,
)

PLINK_BIM = Dialect(
    key="bim",
    name="PLINK .bim",
    signature=(),
    columns={
        "chromosome": ("chromosome",),
        "source_id": ("identifier",),
        "position": ("position",),
        "effect_allele": ("a1",),
        "other_allele": ("a2",),
    },
    chromosomes=X_Y_XY_MT,
    missing=frozenset({"0"}),
    header=("chromosome", "identifier", "centimorgans", "position", "a1", "a2"),
)
