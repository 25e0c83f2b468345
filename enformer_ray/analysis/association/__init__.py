"""Association of scores with a study, track by track: correlation, enrichment, re-weighted credible sets."""
