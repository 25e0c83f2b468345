"""Scores as files that other programs read; docs/exports.md has the layouts and their sources."""
