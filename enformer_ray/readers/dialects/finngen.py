"""FinnGen: summary statistics (`{endpoint}.gz`) and SuSiE fine-mapping (`{endpoint}.SUSIE.snp.bgz`).

Source: finngen.gitbook.io/documentation/r9/data-description. Summary statistics: `#chrom pos ref alt rsids
nearest_genes pval mlogp beta sebeta af_alt ...`, alt is the effect allele, chromosomes 1-23. (Releases up to 3 call
the frequency of alt `maf`; it is not used.) SuSiE: allele1 is the reference, allele2 the effect allele, `maf` a minor
allele frequency, which is not used, `prob` the posterior inclusion probability, `cs` the credible set within the
region, -1 for none: with the trait and the region it gets a name of its own, `TRAIT|REGION|CS`.
"""

from __future__ import annotations

import pyarrow.compute as pc

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect, TextColumns, join_texts

FINNGEN = Dialect(
    key="finngen",
    name="FinnGen",
    signature=(("chrom",), ("pos",), ("ref",), ("alt",), ("pval", "mlogp"), ("sebeta",)),
    columns={
        "chromosome": ("chrom",),
        "position": ("pos",),
        "other_allele": ("ref",),
        "effect_allele": ("alt",),
        "source_id": ("rsids",),
        "rsid": ("rsids",),
        "p_value": ("pval",),
        "neg_log_10_p_value": ("mlogp",),
        "beta": ("beta",),
        "standard_error": ("sebeta",),
        "effect_allele_frequency": ("af_alt",),
    },
    chromosomes=X_Y_XY_MT,
)


def _credible_set(cells: TextColumns) -> None:
    number = cells["credible_set"]
    cells["credible_set"] = join_texts((cells["trait"], cells["region"], number), pc.not_equal(number, "-1"))


FINNGEN_SUSIE = Dialect(
    key="finngen-susie",
    name="FinnGen SuSiE .snp",
    signature=(
        ("trait",),
        ("region",),
        ("v",),
        ("chromosome",),
        ("position",),
        ("allele1",),
        ("allele2",),
        ("prob",),
        ("cs",),
    ),
    columns={
        "trait": ("trait",),
        "region": ("region",),
        "source_id": ("v",),
        "rsid": ("rsid",),
        "chromosome": ("chromosome",),
        "position": ("position",),
        "other_allele": ("allele1",),
        "effect_allele": ("allele2",),
        "beta": ("beta",),
        "standard_error": ("se",),
        "p_value": ("p",),
        "pip": ("prob",),
        "credible_set": ("cs",),
    },
    chromosomes=X_Y_XY_MT,
    convert=_credible_set,
)
