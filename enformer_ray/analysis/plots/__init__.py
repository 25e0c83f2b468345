"""Pictures for papers, drawn by Matplotlib: they are the report's, as PNG, SVG or PDF."""

from enformer_ray.analysis.plots.style import save

__all__ = ["save"]
