"""Reference sequence and coordinates: FASTA, windows and regions, sequence codes, gene annotation."""
