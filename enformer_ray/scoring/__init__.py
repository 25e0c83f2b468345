"""Ref against alt: effect scores of variants from a loaded model. No Ray in here."""

from enformer_ray.scoring.indels import convention
from enformer_ray.scoring.scorer import VariantScorer

SCORER_VERSION = 1
"""Raised whenever a change of this program changes a score; part of a plan's fingerprint."""

__all__ = ["SCORER_VERSION", "VariantScorer", "convention"]
