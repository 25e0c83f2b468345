"""A small generated world, so that everything runs on a laptop in minutes."""
