"""Finished runs: opening, selecting and querying their scores."""
