"""Scoring the shards of a plan: the driver, its pool of worker actors, and the progress that it reports."""
