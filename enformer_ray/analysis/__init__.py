"""What is done with a finished dataset: association, calibration, exports, plots, the report."""
