"""How it is spread: plan, shards, workers, receipts, finalise."""
