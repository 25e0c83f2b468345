"""Effect scores of variants from a loaded network: predictions for the alternate against the reference, without Ray."""

SCORER_VERSION = 2
"""Raised whenever a change of this program changes a score; part of a plan's fingerprint."""
