"""From a job to a plan: the catalogue divided into shards, with a fingerprint of everything that can change a score."""
