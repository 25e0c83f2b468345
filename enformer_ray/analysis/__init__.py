"""What people do with a finished dataset: association, calibration, exports for other programs, plots, the report."""
