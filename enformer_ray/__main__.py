"""The program: runs the command line, and says so in a sentence where not even its libraries can be loaded."""

import sys

from enformer_ray.errors import as_ours
from enformer_ray.shown import shown


def main() -> None:
    """Run the command line of this process."""
    try:
        from enformer_ray.cli.main import main as run
    except (ImportError, OSError, RuntimeError, MemoryError) as error:  # a limit on memory or threads
        stopped = as_ours(error)
        if stopped is None:
            raise
        sys.stderr.write(f"error: {shown(str(stopped))}\n")
        sys.exit(stopped.exit_status)
    run()


if __name__ == "__main__":
    main()
