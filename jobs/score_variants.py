"""Score a variant catalogue: `python jobs/score_variants.py [JOB.yaml] [options]`, also under `ray job submit`."""

import os
import sys
from pathlib import Path

from enformer_ray.cli.main import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    job = Path(__file__).with_suffix(".yaml")
    if arguments and not arguments[0].startswith("-"):
        job = Path(arguments.pop(0))
    # `ray job submit` names the cluster that it started this script on.
    cluster = ["--address", os.environ["RAY_ADDRESS"]] if "RAY_ADDRESS" in os.environ else []
    main(["score", "--config", str(job), *cluster, *arguments])
