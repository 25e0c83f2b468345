"""What predicts: the Enformer network and its weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enformer_ray.model.checkpoint import save_weights
    from enformer_ray.model.enformer import Enformer
    from enformer_ray.model.geometry import EnformerConfig
    from enformer_ray.model.hub import load_enformer

else:
    # Looked up when they are used: whoever reads a track table, or finished scores, should not wait for torch.
    _HOMES = {
        "Enformer": "enformer",
        "EnformerConfig": "config",
        "load_enformer": "load",
        "save_weights": "checkpoint",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["Enformer", "EnformerConfig", "load_enformer", "save_weights"]
