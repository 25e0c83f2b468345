"""The lease of a run directory: which driver is at work in it.

Each driver claims the next epoch by a document that is created once, so of two claimants one succeeds, and renews its
heartbeat. A driver whose lease has ended (released, expired, dead on this machine, or taken over on request) is
followed by one of the next epoch, and notices that before it publishes anything. Clocks and heartbeats only decide how
soon a claim is allowed: that nothing is published twice rests on documents that are created once.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from enformer_ray.errors import LeaseHeldError, LeaseLostError
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, find_document

HEARTBEAT_SECONDS = 10.0
EXPIRES_SECONDS = 60.0
"""Age of the last heartbeat at which a lease has ended."""

_log = logging.getLogger(__name__)


class Claim(BaseModel):
    """Who holds an epoch.

    Attributes:
        epoch: counts drivers of the run directory, from 1.
        driver: random name.
        host: name of the machine.
        pid: its process number.
        machine: this boot of the machine and its process namespace, and when the process began; empty where unknown.
        began: UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    driver: str
    host: str
    pid: int
    machine: str
    process: str
    began: str


class Heartbeat(BaseModel):
    """Last sign of life of a driver: when (UTC, ISO 8601), and whether it has released the lease."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    released: bool


class Lease:
    """A claim that this process holds."""

    def __init__(self, store: RunStore, claim: Claim) -> None:
        self._store, self.claim = store, claim

    @property
    def epoch(self) -> int:
        """Number of the claim."""
        return self.claim.epoch

    def check(self) -> None:
        """Raise LeaseLostError when another driver has taken over; called before anything is published."""
        if self._store.exists(layout.lease(self.epoch + 1)):
            raise LeaseLostError(
                f"the run directory {self._store.uri} has been taken over by another driver "
                f"({_describe(_claim(self._store, self.epoch + 1))}), so this one stops; it published nothing since. "
                "`enformer-ray status` shows how far the run is."
            )

    def beat(self, *, released: bool = False) -> None:
        """Renew the heartbeat."""
        beat = Heartbeat(at=_now().isoformat(timespec="milliseconds"), released=released)
        self._store.replace(layout.heartbeat(self.epoch), beat.model_dump_json().encode())


@contextmanager
def hold(store: RunStore, take_over: bool = False) -> Iterator[Lease]:
    """Claim a run directory, renew the claim in the background, release it at the end.

    LeaseHeldError when another driver works there; `take_over` claims it even from one that seems to be alive.
    """
    lease = _claim_next(store, take_over)
    ended = threading.Event()
    beats = threading.Thread(target=_keep_beating, args=(lease, ended), name="lease", daemon=True)
    beats.start()
    try:
        yield lease
    finally:
        ended.set()
        beats.join(HEARTBEAT_SECONDS)  # a store that is out of reach must not keep the process
        try:
            lease.beat(released=True)
        except OSError as error:  # of the store, or of this machine's disk
            # Not raised: the lease expires by itself, and this would hide the error that the run ended with.
            _log.warning("the lease of %s could not be released: %s", store.uri, error)


def holder(store: RunStore) -> tuple[Claim, Heartbeat | None, bool] | None:
    """The newest claim on a run directory, its heartbeat, and whether its driver is (as far as one can tell) alive."""
    epoch = _newest(store)
    claim = _claim(store, epoch) if epoch else None
    if claim is None:
        return None
    beat = _heartbeat(store, epoch)
    return claim, beat, _ended(claim, beat) is None


def _claim_next(store: RunStore, take_over: bool) -> Lease:
    epoch = _newest(store)
    previous = _claim(store, epoch) if epoch else None
    if previous is not None and not take_over:
        _wait_for_end(store, previous)
    claim = Claim(
        epoch=epoch + 1,
        driver=uuid.uuid4().hex[:12],
        host=platform.node(),
        pid=os.getpid(),
        machine=_machine(),
        process=_process(os.getpid()) or "",
        began=_now().isoformat(timespec="seconds"),
    )
    created = store.create(layout.lease(claim.epoch), claim.model_dump_json(indent=1).encode())
    # Read back: in a store without conditional puts both of two claimants succeed, and the later one's claim remains.
    found = _claim(store, claim.epoch)
    if not created or found != claim:
        raise _held(store, found, None)
    lease = Lease(store, claim)
    lease.beat()
    return lease


def _wait_for_end(store: RunStore, claim: Claim) -> None:
    """Return when a lease has ended; LeaseHeldError when its driver is alive: here, or as its next heartbeat shows.

    That a driver on another machine was killed shows only by its lease expiring.
    """
    first = beat = _heartbeat(store, claim.epoch)
    began = time.monotonic()
    if _ended(claim, beat) is None and not _is_here(claim):
        _log.warning("%s is held by %s: looking whether that is alive", store.uri, _describe(claim))
    while _ended(claim, beat) is None:
        if _is_here(claim) or beat != first:
            raise _held(store, claim, beat)
        if time.monotonic() - began > EXPIRES_SECONDS:
            return  # not a sign of life in that time, whatever its clock said: it may be ahead of this one
        time.sleep(min(1.0, EXPIRES_SECONDS / 10))
        beat = _heartbeat(store, claim.epoch)


def _keep_beating(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        try:
            lease.beat()
        except OSError as error:  # of the store, or of this machine's disk: this thread must not end with it
            # Nobody else may publish in our place before we find out: `check` looks for a later claim itself.
            _log.warning("the heartbeat of the lease failed, trying again: %s", error)


def _ended(claim: Claim, beat: Heartbeat | None) -> str | None:
    """Why a lease has ended; None while its driver may be at work."""
    if beat is not None and beat.released:
        return "released"
    # Process numbers are used again: only with the time at which it began does one identify the process of the claim.
    if _is_here(claim) and claim.process != (_process(claim.pid) or ""):
        return "dead"
    last = datetime.fromisoformat(beat.at if beat is not None else claim.began)
    return "expired" if (_now() - last).total_seconds() > EXPIRES_SECONDS else None


def _is_here(claim: Claim) -> bool:
    return claim.machine != "" and claim.machine == _machine()


def _newest(store: RunStore) -> int:
    epochs = [layout.lease_epoch(path) for path in store.list(layout.LEASE)]
    return max((epoch for epoch in epochs if epoch is not None), default=0)


def _claim(store: RunStore, epoch: int) -> Claim | None:
    # None for one of another version: the claim still counts by its name, only its owner cannot be shown.
    return find_document(store, layout.lease(epoch), Claim.model_validate_json)


def _heartbeat(store: RunStore, epoch: int) -> Heartbeat | None:
    return find_document(store, layout.heartbeat(epoch), Heartbeat.model_validate_json)


def _held(store: RunStore, claim: Claim | None, beat: Heartbeat | None) -> LeaseHeldError:
    last = f", last sign of life at {beat.at}" if beat is not None else ""
    return LeaseHeldError(
        f"another driver is at work in {store.uri} ({_describe(claim)}{last}). Wait for it, or stop it; if it is dead, "
        f"its lease ends {EXPIRES_SECONDS:.0f} seconds after its last sign of life, and --take-over claims the run "
        "directory at once: a driver that was alive after all then stops without publishing."
    )


def _describe(claim: Claim | None) -> str:
    return f"process {claim.pid} on {claim.host} since {claim.began}" if claim else "unknown"


def _now() -> datetime:
    return datetime.now(UTC)


def _machine() -> str:
    # Containers of one machine share its boot id but not its process numbers.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> str | None:
    """When a process of this machine began, in ticks since boot; None when it does not exist."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
