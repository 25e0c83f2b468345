"""From staged shards to a finished dataset: audited, merged, checked and published once."""
