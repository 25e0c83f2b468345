"""Analyses of a finished dataset: association, calibration, MPRA, saturation, exports, plots, the report."""
