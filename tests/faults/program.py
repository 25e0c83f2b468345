"""enformer-ray as a user starts it, but less patient: a trial cannot wait half an hour for what hangs."""

from __future__ import annotations

import os

from enformer_ray.cli.main import main
from enformer_ray.engine import backlog, pool
from enformer_ray.publish import build

OPENING_SECONDS = 90.0
MAX_PAUSE = 4.0
FINALISE_ON_RAY = "ENFORMER_RAY_TRIAL_FINALISE_ON_RAY"
"""Environment variable: when set, finished files are built by Ray tasks however few there are."""

if __name__ == "__main__":
    pool.OPENING_SECONDS = OPENING_SECONDS
    backlog.MAX_PAUSE = MAX_PAUSE
    if os.environ.get(FINALISE_ON_RAY):
        build.IN_PROCESS_BYTES = 0
    main()
