"""The catalogue: the unique, normalised variants of all input files, and what became of every input record."""
