"""enformer-ray as a user starts it, but less patient: a trial cannot wait half an hour for what hangs."""

from __future__ import annotations

from enformer_ray.cli import main
from enformer_ray.run import backlog, pool

OPENING_SECONDS = 45.0
LONGEST_PAUSE = 4.0

if __name__ == "__main__":
    pool.OPENING_SECONDS = OPENING_SECONDS
    backlog.LONGEST_PAUSE = LONGEST_PAUSE
    main()
