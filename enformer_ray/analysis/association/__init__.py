"""Scores against a study, track by track: correlation, enrichment, re-weighted credible sets."""
