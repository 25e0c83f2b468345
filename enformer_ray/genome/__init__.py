"""What a base is: the reference genome, windows over it, and sequence codes."""

from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.genome.sequence import UNKNOWN, decode, encode, reverse_complement
from enformer_ray.genome.window import BIN, Window, window_start

__all__ = [
    "BIN",
    "UNKNOWN",
    "ReferenceGenome",
    "Window",
    "decode",
    "encode",
    "reverse_complement",
    "window_start",
]
