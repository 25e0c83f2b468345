"""Scoring the shards of a plan: the driver, its pool of worker actors, and what it tells of their progress."""
