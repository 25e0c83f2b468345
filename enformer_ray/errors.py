"""Every error that a user can meet.

Each class inherits the project's base and the builtin that a library caller would expect. The message names the file,
the record or the option, and says what to do. `exit_status` is what the command line returns: 1 error, 2 usage, 4
refused (docs/run_directory.md).
"""

import errno
import re

from enformer_ray.shown import redacted


class EnformerRayError(Exception):
    """Base of all errors of this project; its text holds no credential, whatever URI or foreign message is in it."""

    exit_status = 1

    def __str__(self) -> str:
        return redacted(super().__str__())


class ConfigError(EnformerRayError, ValueError):
    """An option or a job file that cannot be used as written."""

    exit_status = 2


class SelectionError(EnformerRayError, ValueError):
    """Tracks, variants, regions or SQL that select nothing, or that the head, reference or dataset does not have."""

    exit_status = 2


class OutputExistsError(EnformerRayError, FileExistsError):
    """A file to be written that is there already."""

    exit_status = 2


class InputFileError(EnformerRayError, ValueError):
    """A file that cannot be read as what it claims to be: FASTA, chain, GTF, track table, measurements, a release."""


class VariantFileError(InputFileError):
    """A variant file, or a record in it, that cannot be read."""


class UnknownContigError(EnformerRayError, KeyError):
    """A chromosome that the reference FASTA does not hold."""

    def __str__(self) -> str:  # KeyError prints the repr of its argument
        return redacted(str(self.args[0])) if self.args else ""


class CatalogueError(EnformerRayError, ValueError):
    """Variants that cannot be scored as they are: of another assembly than the FASTA, or none left to score."""


class WeightsError(EnformerRayError, ValueError):
    """Weights that cannot be found, are not safe to load, or do not fit the network."""


class DownloadError(EnformerRayError, OSError):
    """A download that failed, brought other bytes than expected, or was forbidden by `--offline`."""


class MissingPackageError(EnformerRayError, ImportError):
    """A package that only this use needs, and that is not installed."""


class DeviceError(EnformerRayError, RuntimeError):
    """A device or precision that this machine does not have."""


class StoreError(EnformerRayError, OSError):
    """A run directory that cannot be read or written."""


class DiskError(EnformerRayError, OSError):
    """A file of this machine that cannot be read or written, often because its disk is full."""


class ResourceError(EnformerRayError, RuntimeError):
    """Memory, threads, processes or open files that this machine, or a limit on it (ulimit), does not give."""


class MismatchError(EnformerRayError, ValueError):
    """Things that must be the same and are not: plan and job, reference and plan, runs of one dataset, a release."""

    exit_status = 4


class PreviousRunError(EnformerRayError, ValueError):
    """A run whose scores are to be reused, and which is not there, not finished or has changed."""


class LeaseHeldError(EnformerRayError, RuntimeError):
    """A run directory in which another driver works."""

    exit_status = 4


class LeaseLostError(EnformerRayError, RuntimeError):
    """A driver whose run directory another one has taken over; it publishes nothing more."""

    exit_status = 4


class WorkersLostError(EnformerRayError, RuntimeError):
    """Worker processes that die, or fail at every shard, through no fault of the variants."""


class ClusterError(EnformerRayError, ConnectionError):
    """A Ray cluster that cannot be reached or joined, refuses the token or the job, or lost a job."""


class RunInterruptedError(EnformerRayError, RuntimeError):
    """A run that was told to stop (Ctrl-C: 130, SIGTERM: 143); the same command resumes it."""

    def __init__(self, message: str, exit_status: int = 130) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class RunIncompleteError(EnformerRayError, RuntimeError):
    """Something was asked of a run that is not there yet."""


class DatasetCorruptError(EnformerRayError, ValueError):
    """Files that do not agree with their receipt or manifest."""


class AuditError(EnformerRayError, ValueError):
    """Scores that direct passes of the network do not confirm."""


class AnalysisError(EnformerRayError, ValueError):
    """A plot, profile, association or export that the dataset or the files given with it do not allow."""


def disk_error(error: OSError) -> DiskError:
    """An error of the operating system as one of ours: local files are written in too many places to guard each."""
    what = f"{error.filename} cannot be read or written" if error.filename else "a file cannot be read or written"
    return DiskError(
        f"{what} ({error.strerror or error}). Free space on that disk (set TMPDIR to a folder with more for files to "
        "work with) or mend its permissions; the same command goes on from what is done."
    )


_NO_MEMORY = re.compile(
    r"out ?of ?memory|(cannot|can't|could not|unable to|failed to|not enough memory: you tried to) allocate"
    r"|bad_alloc|malloc of size|failed to map segment|Bad allocation",
    re.I,
)
_NO_THREAD = re.compile(
    r"can't start new thread|pthread_create|(launch|spawn|create|creation of)( a| new)?( worker)? threads?"
    r"|thread creation|Resource temporarily unavailable",
    re.I,
)
_ERRNOS = {errno.ENOMEM: "memory", errno.EAGAIN: "thread", errno.EMFILE: "file", errno.ENFILE: "file"}
_LIMITS = {
    "memory": "the program got no more memory ({}). Free some, raise the limit that it runs under (`ulimit -v`, or "
    "that of the job or container), or have it take less: a smaller --batch-size or --token-cache-mb, fewer --workers",
    "thread": "the program got no further thread or process ({}). End other programs, or raise the limit that it runs "
    "under (`ulimit -u`, `ulimit -v`, or that of the job or container)",
    "file": "the program may open no further file ({}). Raise the limit that it runs under (`ulimit -n`), or end other "
    "programs",
}


def resource_error(error: BaseException) -> ResourceError | None:
    """An error that means that a resource ran out as one of ours, else None.

    By its words: torch, pyarrow, DuckDB, Ray and the loader of libraries each have classes of their own for it, some of
    which stand for anything. Where foreign errors are translated, this is asked first: the file is not to blame.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        what = _ERRNOS.get(error.errno)
    elif isinstance(error, MemoryError) or _NO_MEMORY.search(f"{type(error).__name__} {text}"):
        what = "memory"
    else:
        what = "thread" if _NO_THREAD.search(text) else None
    return ResourceError(f"{_LIMITS[what].format(shortened(text or type(error).__name__, 200))}.") if what else None


def as_ours(error: BaseException) -> EnformerRayError | None:
    """An error as a user is to meet it; None for one that no user should meet."""
    if isinstance(error, EnformerRayError):
        return error
    return resource_error(error) or (disk_error(error) if isinstance(error, OSError) else None)


def shortened(text: str, most: int = 80) -> str:
    """A text as it is shown: beginning and end of one that is too long, and its length where much is left out."""
    if len(text) <= most:
        return text
    length = f" ({len(text):,} characters)" if len(text) > 3 * most else ""
    half = (most - len(length) - 3) // 2
    return f"{text[: max(4, half)]}...{text[-max(4, half) :]}{length}"
