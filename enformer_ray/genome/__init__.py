"""What a base is: the reference genome, windows over it, and sequence codes."""

from enformer_ray.genome.coordinates import BIN, UNKNOWN, Window, decode, encode, reverse_complement, window_start
from enformer_ray.genome.reference import ReferenceGenome

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
