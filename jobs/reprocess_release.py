"""Score a new release of variants beside previous runs: `python jobs/reprocess_release.py [JOB.yaml] [options]`.

With a section `schedule` in the job file it finds what is new by itself; cron, Slurm and Kubernetes start it so.
"""

import os
import sys
from pathlib import Path

from enformer_ray.cli.main import main
from enformer_ray.errors import ConfigError
from enformer_ray.job_file import load_job_file

if __name__ == "__main__":
    arguments = sys.argv[1:]
    job = Path(__file__).with_suffix(".yaml")
    if arguments and not arguments[0].startswith("-"):
        job = Path(arguments.pop(0))
    try:
        command = "releases" if "schedule" in load_job_file(job) else "reprocess"
    except ConfigError:
        command = "reprocess"  # which says what is wrong with the job file
    # `ray job submit` names the cluster that it started this script on.
    cluster = ["--address", os.environ["RAY_ADDRESS"]] if "RAY_ADDRESS" in os.environ else []
    main([command, "--config", str(job), *cluster, *arguments])
