"""The report of a finished run: one HTML file that opens without a network."""

from enformer_ray.analysis.report.page import Report, collect, render

__all__ = ["Report", "collect", "render"]
