"""Ref against alt: effect scores of variants from a loaded model. No Ray in here."""

from enformer_ray.scoring.direct import DirectScorer
from enformer_ray.scoring.gene_scorer import DirectGeneScorer, GeneScorer
from enformer_ray.scoring.indels import convention
from enformer_ray.scoring.scorer import VariantScorer

SCORER_VERSION = 2
"""Raised whenever a change of this program changes a score; part of a plan's fingerprint."""

__all__ = ["SCORER_VERSION", "DirectGeneScorer", "DirectScorer", "GeneScorer", "VariantScorer", "convention"]
