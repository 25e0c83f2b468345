"""Every error that a user can meet.

Each class inherits the project's base and the builtin that a library caller would expect. The message is a paragraph
for a person: it names the file, the record or the option, and says what to do. `exit_status` is what the command
line returns: 1 error, 2 usage, 4 refused (see DESIGN.md, "The run directory").
"""


class EnformerRayError(Exception):
    """Base of all errors of this project."""

    exit_status = 1


class ConfigError(EnformerRayError, ValueError):
    """An option or a job file that cannot be used as written."""

    exit_status = 2


class ReferenceFastaError(EnformerRayError, ValueError):
    """A reference FASTA that cannot be read, or an index that is missing or stale."""


class UnknownContigError(EnformerRayError, KeyError):
    """A chromosome that the reference FASTA does not hold."""

    def __str__(self) -> str:  # KeyError prints the repr of its argument
        return str(self.args[0]) if self.args else ""


class ReferenceChangedError(EnformerRayError, ValueError):
    """Reference bases that differ from those the plan was made with."""

    exit_status = 4


class VariantFileError(EnformerRayError, ValueError):
    """A variant file that cannot be read as what it claims to be."""


class RegionError(EnformerRayError, ValueError):
    """Regions to saturate that do not lie in the reference, or a BED file that cannot be read."""

    exit_status = 2


class ChainFileError(EnformerRayError, ValueError):
    """A chain file that cannot be read, or does not fit what it is used on."""


class AssemblyMismatchError(EnformerRayError, ValueError):
    """Too many reference alleles differ from the FASTA: probably another assembly."""


class EmptyCatalogueError(EnformerRayError, ValueError):
    """A catalogue that leaves nothing to score."""


class WeightsError(EnformerRayError, ValueError):
    """Weights that cannot be found, are not safe to load, or do not fit the network."""


class TrackTableError(EnformerRayError, ValueError):
    """A track table that cannot be read or does not fit the head."""


class TrackSelectionError(EnformerRayError, ValueError):
    """A track selection that names nothing, or names what the head does not have."""

    exit_status = 2


class SelectionError(EnformerRayError, ValueError):
    """A selection of variants of a finished dataset that cannot be read, or that the dataset cannot answer."""

    exit_status = 2


class QueryError(EnformerRayError, ValueError):
    """SQL that cannot be run on a finished dataset, or whose result cannot be written as asked."""

    exit_status = 2


class RunsDifferError(EnformerRayError, ValueError):
    """Runs that do not make one dataset: their scores are of other tracks, statistics or weights."""

    exit_status = 4


class MissingPackageError(EnformerRayError, ImportError):
    """A package that only this use needs, and that is not installed."""


class OfflineError(EnformerRayError, RuntimeError):
    """Something would have to be downloaded although `--offline` was given."""


class DownloadError(EnformerRayError, OSError):
    """A download that failed or brought other bytes than expected."""


class DeviceError(EnformerRayError, RuntimeError):
    """A device or precision that this machine does not have."""


class StoreError(EnformerRayError, OSError):
    """A run directory that cannot be read or written."""


class DiskError(EnformerRayError, OSError):
    """A file of this machine, mostly one to work with, that cannot be read or written: its disk is full, say."""


class PlanMismatchError(EnformerRayError, ValueError):
    """A run directory that holds another plan than the one asked for."""

    exit_status = 4


class GeneFileError(EnformerRayError, ValueError):
    """A gene annotation that cannot be read as GTF."""


class ProfileError(EnformerRayError, RuntimeError):
    """Tracks of a variant that cannot be predicted again: weights or reference of the run are not here."""


class RunIncompleteError(EnformerRayError, RuntimeError):
    """Something was asked of a run that is not there yet."""


class LeaseHeldError(EnformerRayError, RuntimeError):
    """A run directory that another driver is at work in."""

    exit_status = 4


class LeaseLostError(EnformerRayError, RuntimeError):
    """A driver whose run directory another one has taken over; it publishes nothing more."""

    exit_status = 4


class ShardFailedError(EnformerRayError, RuntimeError):
    """A shard that could not be scored within its retries, through no fault of its variants."""


class DatasetCorruptError(EnformerRayError, ValueError):
    """Files that do not agree with their receipt or manifest."""


class PreviousRunError(EnformerRayError, ValueError):
    """An earlier run whose scores are to be taken, and which is not there, not finished or not what it was."""


class ReleaseError(EnformerRayError, ValueError):
    """Releases that are not where they should be, or that cannot be told apart."""


class ReleaseChangedError(EnformerRayError, RuntimeError):
    """A release that was written to after, or while, it was read."""

    exit_status = 4


class AuditError(EnformerRayError, ValueError):
    """Scores that plain passes of the network do not confirm."""


class OutputExistsError(EnformerRayError, FileExistsError):
    """A file to be written that is there already."""

    exit_status = 2


class ExportError(EnformerRayError, ValueError):
    """An export that the dataset, its input files or a file that goes with them do not allow."""


class CalibrationError(EnformerRayError, ValueError):
    """A calibration table, or variants to make one from, that cannot be used."""


class CalibrationMismatchError(EnformerRayError, ValueError):
    """A calibration table that was made from scores of another kind than those of the run."""

    exit_status = 4


class AssociationError(EnformerRayError, ValueError):
    """Scores and study results that cannot be brought together, or a folder that is not free for what they give."""


class MeasuredTableError(EnformerRayError, ValueError):
    """A table of measured effects that cannot be read, or that has nothing in common with the run."""


class RunInterruptedError(EnformerRayError, RuntimeError):
    """A run that was told to stop (Ctrl-C: 130, SIGTERM: 143); the same command resumes it."""

    def __init__(self, message: str, exit_status: int = 130) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class WorkersLostError(EnformerRayError, RuntimeError):
    """Worker processes that die again and again before any of them scores a shard."""


class ClusterUnreachableError(EnformerRayError, ConnectionError):
    """A Ray cluster that does not answer, or does not let this program join."""


class SubmissionError(EnformerRayError, ConnectionError):
    """A Ray cluster that cannot be reached, refuses the token or the job, or lost a job that it had taken."""


def disk_error(error: OSError) -> DiskError:
    """What the operating system refused, in words: files to work with are written in too many places to guard each."""
    what = f"{error.filename} cannot be read or written" if error.filename else "a file cannot be read or written"
    return DiskError(
        f"{what} ({error.strerror or error}). Free space on that disk (set TMPDIR to a folder with more for files to "
        "work with) or mend its permissions; the same command goes on from what is done."
    )


def shortened(text: str, most: int = 80) -> str:
    """A text as it is shown: beginning and end of one that is too long, and its length where much is left out."""
    if len(text) <= most:
        return text
    length = f" ({len(text):,} characters)" if len(text) > 3 * most else ""
    half = (most - len(length) - 3) // 2
    return f"{text[: max(4, half)]}...{text[-max(4, half) :]}{length}"
