"""EPACTS, single-variant tests.

Source: genome.sph.umich.edu/wiki/EPACTS, section "Output Files": tab separated, `#CHROM BEG` (or BEGIN) `END
MARKER_ID NS AC CALLRATE GENOCNT MAF STAT PVALUE BETA SEBETA ...`; the alleles stand in MARKER_ID,
`1:534221_C/T_1:534221` being CHROM:POS_REF/ALT_ID, and BETA is of the non-reference allele. MAF is a minor allele
frequency, and so not that of the effect allele; it is not used.
"""

from __future__ import annotations

from enformer_ray.readers.dialects.base import X_Y_XY_MT, Dialect, TextColumns, split_variant

_MARKER = r"^[^_]*:[0-9]+_(?P<other_allele>[^/_]+)/(?P<effect_allele>[^/_]+)(?:_.*)?$"


def _alleles(cells: TextColumns) -> None:
    cells.update(split_variant(cells["source_id"], _MARKER))


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
