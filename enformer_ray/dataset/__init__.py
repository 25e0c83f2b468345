"""What is left: opening and querying finished datasets."""

from enformer_ray.dataset.dataset import ScoreDataset, open_scores

__all__ = ["ScoreDataset", "open_scores"]
