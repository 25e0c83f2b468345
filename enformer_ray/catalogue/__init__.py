"""Variants of all inputs, normalised into a catalogue of unique ones; every input record accounted for."""
