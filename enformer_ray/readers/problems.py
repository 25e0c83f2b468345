"""What a reader may say in `problem` that is no fault of the file: a code, counted as the reason of a rejected row."""

from __future__ import annotations

NO_POSITION = "no_position"
NO_ALTERNATE_ALLELE = "no_alternate_allele"
OTHER_TEST = "other_test"
PALINDROMIC = "palindromic"
INDEL_AMBIGUOUS = "indel_ambiguous"
UNKNOWN_BASE = "unknown_base"

PROBLEM_CODES = {
    NO_POSITION: "the file gives no chromosome or no position for it",
    NO_ALTERNATE_ALLELE: "the record has no alternate allele",
    OTHER_TEST: "the row is of a covariate or of another test than the additive one",
    PALINDROMIC: "an A/T or C/G SNP, whose strand cannot be told",
    INDEL_AMBIGUOUS: "both alleles match the FASTA, so that it may be an insertion or a deletion",
    UNKNOWN_BASE: "the FASTA has no A, C, G or T at a base to saturate, so that nothing can be substituted",
}
"""Codes and what they mean; any other text in `problem` is a bad record, in words."""
