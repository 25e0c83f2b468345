"""A small generated world whose true effects are known, so that everything runs on a laptop in minutes."""
