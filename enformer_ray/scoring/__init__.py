"""Effect scores of variants from a loaded network: reference against alternate, without Ray."""

SCORER_VERSION = 2
"""Raised whenever a change of this program changes a score; part of a plan's fingerprint."""
