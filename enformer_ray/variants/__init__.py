"""What came in: variant files, normalised into a catalogue."""
