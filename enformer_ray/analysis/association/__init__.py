"""Scores against what a study found: correlation, enrichment and re-weighted credible sets, track by track."""

from enformer_ray.analysis.association.associate import Association, associate
from enformer_ray.analysis.association.options import AssociationOptions

__all__ = ["Association", "AssociationOptions", "associate"]
