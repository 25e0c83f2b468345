"""What the scores of every substitution say: importance of bases, sequence logos, agreement with measurements."""
