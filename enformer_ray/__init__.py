"""enformer-ray: ref-vs-alt effect scores of genetic variants with Enformer, as a batch job on Ray."""

__version__ = "0.1.0"
