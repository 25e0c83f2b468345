"""What is left: opening and querying finished datasets."""
