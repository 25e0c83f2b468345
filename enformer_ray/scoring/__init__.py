"""Ref against alt: effect scores of variants from a loaded model. No Ray in here."""
