"""What predicts: the Enformer network and its weights."""

from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.config import EnformerConfig
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.load import load_enformer

__all__ = ["Enformer", "EnformerConfig", "load_enformer", "save_weights"]
