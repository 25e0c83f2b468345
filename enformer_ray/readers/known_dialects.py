"""The file formats of tools for association testing and fine-mapping, as data: a dialect for each.

Add one here, and to DIALECTS; docs/inputs.md has an example of each, which the tests read.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.readers.dialects import (
    ALLELES,
    MISSING_ALLELES,
    VARIANT,
    X_Y_MT,
    X_Y_XY_MT,
    Dialect,
    TextColumns,
    join_texts,
    split_variant,
    tested_against,
)
from enformer_ray.readers.study_tables import EFFECT, FIRST, FREQUENCY, FREQUENCY_OF_FIRST, OTHER, SECOND

_NUMBERS = {
    "standard_error": ("standard_error",),
    "p_value": ("p_value",),
    "neg_log_10_p_value": ("neg_log_10_p_value",),
    "n": ("n",),
}

_P = ("p", "pval", "pvalue", "p_value")

# github.com/EBISPOT/gwas-summary-statistics-standard (specification 1.0; 1.1.0 in gwas-ssf_v1.1.0.tex): `#NA` is a
# missing value; p_value or neg_log_10_p_value; one of beta, odds_ratio and hazard_ratio; X = 23, Y = 24, MT = 25.
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

# github.com/EBISPOT/gwas-sumstats-harmoniser: the submitted columns are kept, and the `hm_` ones are on GRCh38.
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

# rgcgithub.github.io/regenie/options (output of step 2): ALLELE0 is the reference allele of the genotype file, A1FREQ
# is of ALLELE1. Rows of TEST other than ADD (DOM, REC, ADD-CONDTL, interactions, gene-based masks) are not additive
# results of one variant.
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

# saigegit.github.io/SAIGE-doc/docs/single_step2.html: BETA and AF_Allele2 are of Allele2, p.value is after the
# saddle-point approximation. Versions before 1.0 call the identifier SNPID or rsid. A frequency of Allele2 tells such a
# file even where somebody has renamed p.value.
SAIGE = Dialect(
    key="saige",
    name="SAIGE",
    signature=(("chr",), ("pos",), ("allele1",), ("allele2",), ("af_allele2", "ac_allele2"), ("p.value", *_P)),
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
        "p_value": ("p.value", *_P),
        "n": ("n",),
        "n_cases": ("n_case", "n.cases"),
        "n_controls": ("n_ctrl", "n.controls"),
    },
    chromosomes=X_Y_XY_MT,
)


def _other_allele(cells: TextColumns) -> None:
    """The allele that A1 is tested against."""
    omitted = cells.pop("omitted_allele", None)
    other = tested_against(cells["effect_allele"], cells.pop("reference_allele"), cells.pop("alternate_allele"))
    cells["other_allele"] = other if omitted is None else pc.coalesce(omitted, other)


# cog-genomics.org/plink/2.0/formats (glm_linear, glm_logistic): A1 is the tested allele; OMITTED, in newer versions, is
# the allele that it is tested against. NEG_LOG10_P (once LOG10_P) replaces P with the modifier `log10`. Each covariate
# has a row of its own.
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

# cog-genomics.org/plink/1.9/formats (bim): no header; A1 is usually the minor allele, `0` a missing one. It says
# nothing about effects, so A1 is taken as the effect allele.
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
    missing=dict.fromkeys(ALLELES, MISSING_ALLELES | {"0"}),
    header=("chromosome", "identifier", "centimorgans", "position", "a1", "a2"),
)

# alkesgroup.broadinstitute.org/BOLT-LMM/BOLT-LMM_manual.html, "Association test statistics output": A1FREQ is of
# ALLELE1; P_BOLT_LMM is of the non-infinitesimal model, which is not always run; P_LINREG is of linear regression.
# GENPOS is a genetic position.
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

_ONLY_FINNGEN = ("mlogp", "af_alt", "af_alt_cases", "maf_cases")
_NOT_PHEWEB = (*_ONLY_FINNGEN, *EFFECT, *OTHER, *FIRST, *SECOND, "test", "pip")

# finngen.gitbook.io/documentation/r9/data-description. Releases up to 3 call the frequency of alt `maf`, which is not
# used. PheWeb's files have the same columns but for those that tell them apart here.
FINNGEN = Dialect(
    key="finngen",
    name="FinnGen",
    signature=(("chrom",), ("pos",), ("ref",), ("alt",), ("pval", "mlogp"), ("sebeta",), _ONLY_FINNGEN),
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
    names_reference=True,
)

# github.com/statgen/pheweb, "File formats": the effect is of alt, af is its frequency. maf is of the minor allele and
# not used.
PHEWEB = Dialect(
    key="pheweb",
    name="PheWeb",
    signature=(("chrom",), ("pos",), ("ref",), ("alt",), ("pval",)),
    without=frozenset(_NOT_PHEWEB),
    columns={
        "chromosome": ("chrom",),
        "position": ("pos",),
        "other_allele": ("ref",),
        "effect_allele": ("alt",),
        "source_id": ("rsids", "rsid"),
        "rsid": ("rsids", "rsid"),
        "p_value": ("pval",),
        "beta": ("beta",),
        "odds_ratio": ("or",),
        "standard_error": ("sebeta",),
        "effect_allele_frequency": ("af", *FREQUENCY, *FREQUENCY_OF_FIRST),
        "n": ("num_samples",),
        "n_cases": ("num_cases",),
        "n_controls": ("num_controls",),
    },
    chromosomes=X_Y_XY_MT,
    names_reference=True,
)


def _credible_set(cells: TextColumns) -> None:
    number = cells["credible_set"]
    cells["credible_set"] = join_texts((cells["trait"], cells["region"], number), pc.not_equal(number, "-1"))


# Same source. `maf` is of the minor allele and not used; `cs` is numbered anew in each region, and -1 is none.
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

_MARKER = r"^[^_]*:[0-9]+_(?P<other_allele>[^/_]+)/(?P<effect_allele>[^/_]+)(?:_.*)?$"


def _alleles(cells: TextColumns) -> None:
    cells.update(split_variant(cells["source_id"], _MARKER))


# genome.sph.umich.edu/wiki/EPACTS, "Output Files": MARKER_ID is CHROM:POS_REF/ALT_ID, as in `1:534221_C/T_1:534221`,
# and BETA is of the alternate allele. MAF is of the minor allele and not used.
EPACTS = Dialect(
    key="epacts",
    name="EPACTS",
    signature=(("chrom",), ("beg", "begin"), ("end",), ("marker_id",), ("ns",), ("pvalue",)),
    columns={
        "chromosome": ("chrom",),
        "position": ("beg", "begin"),
        "source_id": ("marker_id",),
        "n": ("ns",),
        "p_value": ("pvalue",),
        "beta": ("beta",),
        "standard_error": ("sebeta",),
    },
    chromosomes=X_Y_XY_MT,
    convert=_alleles,
)

_PIP = ("pip", "posterior_inclusion_probability", "posterior_probability", "posterior_prob", "postprob", "prob")
_CREDIBLE_SET = ("credible_set", "credible_set_id", "cs_id", "cs")


def _variant_alleles(cells: TextColumns) -> None:
    cells["source_id"] = cells["variant"]
    cells.update(split_variant(cells.pop("variant"), VARIANT))


def _name_sets(cells: TextColumns) -> None:
    number = cells["credible_set"]
    outside = pc.is_in(number, value_set=pa.array(["-1", "0"]))
    parts = [cells[role] for role in ("trait", "region") if role in cells]
    named = join_texts((*parts, number), pc.invert(outside))
    is_number = pc.match_substring_regex(number, "^-?[0-9]+$")
    cells["credible_set"] = pc.if_else(is_number, named, number)


# github.com/eQTL-Catalogue/eQTL-Catalogue-resources (`{dataset}.credible_sets.tsv.gz`): variants are
# chr1_108004887_G_T on GRCh38, reference before alternate, which is the effect allele.
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

# Any other table needs names that leave no doubt which allele is the effect allele: allele1 and allele2 differ from
# tool to tool and need `columns` in the job file. A set that is only a number is joined to its trait and region.
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

DIALECTS = (
    GWAS_SSF,
    GWAS_CATALOG_HARMONISED,
    REGENIE,
    SAIGE,
    PLINK2_GLM,
    BOLT_LMM,
    FINNGEN,
    PHEWEB,
    FINNGEN_SUSIE,
    EPACTS,
    EQTL_CATALOGUE,
    CREDIBLE_SETS,
    PLINK_BIM,
)
"""All dialects that are recognised by their column names."""
