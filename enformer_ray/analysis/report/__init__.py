"""The report of a finished run: one HTML file that opens without a network."""
