"""Submit a job to a running Ray cluster through its Jobs API, with the files that it needs, and follow its log."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enformer_ray import __version__
from enformer_ray.config import JobConfig, refuse_credentials
from enformer_ray.engine.package import JOB_FILE, packed
from enformer_ray.errors import ClusterError, ConfigError, resource_error

# The Jobs API sets RAY_ADDRESS for the entry point. `exec`: signals and exit status are the program's own.
ENTRYPOINT = f'exec python -m enformer_ray score --config {JOB_FILE} --address "$RAY_ADDRESS"'

LOST_AFTER = 300.0
"""Seconds without an answer of the cluster after which following ends; the job is not touched."""

_ANSWER_WITHIN = 20.0  # seconds
_SILENT = 120.0  # seconds
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_STOPPED = 143  # the Jobs API stops a job with SIGTERM and keeps no exit status of it


@dataclass(frozen=True)
class DriverResources:
    """What the driver of a job reserves, which decides where it runs; on the head when nothing is reserved.

    Attributes:
        cpus: CPUs.
        resources: custom resources, as `{"driver": 1}`.
    """

    cpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """A job that a cluster has taken.

    Attributes:
        submission_id: its name there.
        address: of the cluster's dashboard.
        output: run directory.
    """

    submission_id: str
    address: str
    output: str


def submit(
    job: JobConfig,
    *,
    working_dir: Path | None = None,
    ship_code: bool = False,
    submission_id: str | None = None,
    driver: DriverResources | None = None,
) -> Submission:
    """Have a cluster score a job.

    Args:
        job: its address is that of the cluster's dashboard, http://HEAD:8265.
        working_dir: folder whose files go along; relative paths of the job mean files in it.
        ship_code: send this program along instead of using the one that is installed on the cluster.
        submission_id: name of the job on the cluster; the cluster makes one when None.
        driver: what the driver reserves.

    Raises:
        ConfigError: the job cannot be used as written, or holds a credential.
        ClusterError: the cluster cannot be reached, or refuses the token or the job.
    """
    address = dashboard_address(job)
    refuse_credentials(job.model_dump(mode="json"), "the job")
    driver = driver or DriverResources()
    with packed(job, working_dir, ship_code) as package, _jobs_api(address) as client:
        name: str = client.submit_job(
            entrypoint=ENTRYPOINT,
            submission_id=submission_id,
            # No env_vars: they would be readable for everybody who may look at the cluster's jobs.
            runtime_env={"working_dir": str(package)},
            metadata={"enformer-ray": __version__, "output": job.output},
            entrypoint_num_cpus=driver.cpus,
            entrypoint_resources=dict(driver.resources) or None,
        )
    return Submission(name, address, job.output)


def dashboard_address(job: JobConfig) -> str:
    """Address of the dashboard to submit to: the job's own, else that of Ray's environment variables."""
    address = job.address or next((os.environ[name] for name in _ADDRESS_VARIABLES if os.environ.get(name)), None)
    if address is None or not address.startswith(("http://", "https://")) or "@" in address:
        given = "submit needs --address" if address is None else "the address is not that of a Ray dashboard"
        raise ConfigError(f"{given}: give the head's, as --address http://HEAD:8265, without user name or password.")
    return address.rstrip("/")


def follow(submission: Submission, write: Callable[[str], None]) -> int:
    """Pass on the log of a job until it ends, over lost connections too.

    Args:
        submission: the job.
        write: gets pieces of the log.

    Returns:
        The exit status of the job.

    Raises:
        ClusterError: the cluster was not reached for `LOST_AFTER` seconds, or lost the job.
    """
    log = _Log(write)
    while True:
        try:
            with _jobs_api(submission.address) as client:
                log.heard = time.monotonic()
                asyncio.run(log.tail(client, submission.submission_id))
                status = exit_status(client.get_job_info(submission.submission_id))
        except _UnreachableError as error:
            if time.monotonic() - log.heard > LOST_AFTER:
                raise ClusterError(
                    f"{error} The job {submission.submission_id} may well go on: look at its log with `ray job logs "
                    f"--address {submission.address} --follow {submission.submission_id}`."
                ) from None
        else:
            if status is not None:
                return status
        time.sleep(1)


class _Log:
    """Writes the log of a job once, however often the connection is lost."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = 0  # characters
        self.heard = time.monotonic()  # when the cluster last answered

    async def tail(self, client: Any, name: str) -> None:
        """Write what is new until the log ends or is silent for a while: then the connection may be dead."""
        seen = 0  # every connection starts at the beginning of the log
        pieces = client.tail_job_logs(name)
        try:
            while True:
                piece = await asyncio.wait_for(anext(pieces), _SILENT)
                self.heard = time.monotonic()
                seen += len(piece)
                new = seen - self._written
                if new > 0:
                    self._written = seen
                    self._write(piece[-new:])
        except (StopAsyncIteration, TimeoutError):
            await pieces.aclose()
        except RuntimeError as error:  # what Ray's client raises for a connection that broke
            raise _UnreachableError(f"the connection broke: {error}.") from None


def exit_status(info: Any) -> int | None:
    """Exit status of a job; None while it goes on."""
    if not info.status.is_terminal():
        return None
    if info.driver_exit_code is not None:
        code = int(info.driver_exit_code)
        return code if code >= 0 else 128 - code  # killed by a signal, as shells report it
    if info.status.value == "STOPPED":
        return _STOPPED
    raise ClusterError(
        f"the cluster lost the job {info.submission_id} before it had an exit status: {_paragraph(info.message or '')} "
        "Submit it again: it goes on from the shards that have a receipt."
    )


class _UnreachableError(ClusterError):
    """No connection, now."""


@contextmanager
def _jobs_api(address: str) -> Iterator[Any]:
    """Ray's client, whose errors become ClusterError."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{'job.' * (name == 'sdk')}{name}").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
    try:
        # Asked first, with a time limit: Ray's client waits for ever for a machine that does not answer.
        requests.get(f"{address}/api/version", timeout=_ANSWER_WITHIN)
        with _without(_ADDRESS_VARIABLES):  # Ray would prefer them to the address that it is given
            client = JobSubmissionClient(address)
        yield client
    except AuthenticationError as error:
        raise ClusterError(_token_advice(address, error)) from None
    except (requests.exceptions.RequestException, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        if isinstance(error, ClusterError):  # it is a ConnectionError as well
            raise
        raise _UnreachableError(
            f"no Ray dashboard answers at {address} ({type(error).__name__}). Is the cluster up, is this the head's "
            "address with the port of the dashboard (8265), and is the port open or forwarded (`ray dashboard`, "
            "`kubectl port-forward`, `ssh -L`)?"
        ) from None
    except RuntimeError as error:
        raise resource_error(error) or ClusterError(
            f"the Ray cluster at {address} refused: {_paragraph(str(error))}"
        ) from None


@contextmanager
def _without(variables: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _token_advice(address: str, error: Exception) -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        here = "here RAY_AUTH_MODE is not `token`, so none was sent"
    elif os.environ.get("RAY_AUTH_TOKEN"):
        here = "the one of RAY_AUTH_TOKEN is not it"
    else:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
        # Ray's first sentence says whether the file was missing or its token refused.
        here = f"it was looked for in {path} ({_paragraph(str(error)).split('.')[0]})"
    return (
        f"the Ray cluster at {address} wants its token, and {here}. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to "
        "a file with the token of the cluster; cluster/README.md says where each kind of cluster keeps it."
    )


def _paragraph(text: str) -> str:
    """What a server said, without line breaks; of a traceback the last line."""
    if "Traceback (most recent call last)" in text:
        text = [line for line in text.splitlines() if line.strip(" .")][-1]
    return " ".join(text.split())[:600].strip()
