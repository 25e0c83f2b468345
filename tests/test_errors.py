"""Which errors mean that a resource ran out, and how a user meets them."""

from __future__ import annotations

import errno
import os

import duckdb
import pyarrow as pa
import pytest
import torch

from enformer_ray.errors import ConfigError, DiskError, ResourceError, as_ours, resource_error

OUT_OF_RESOURCES = [
    MemoryError(),
    pa.ArrowMemoryError("malloc of size 4611686018427387904 failed"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    duckdb.OutOfMemoryException("Out of Memory Error: Allocation failure"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    RuntimeError("can't start new thread"),
    pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a.vcf"),
]


@pytest.mark.parametrize("error", OUT_OF_RESOURCES, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_a_resource_that_runs_out_is_named(error: Exception) -> None:
    ours = as_ours(error)
    assert isinstance(ours, ResourceError)
    assert "limit" in str(ours)
    assert "ulimit -" in str(ours)
    assert ours.exit_status == 1


def test_real_errors_of_torch_and_pyarrow() -> None:
    with pytest.raises(RuntimeError) as torch_error:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(pa.ArrowMemoryError) as arrow_error:
        pa.allocate_buffer(2**60)
    for error in (torch_error.value, arrow_error.value):
        assert isinstance(as_ours(error), ResourceError)


def test_other_errors_stay_what_they_are() -> None:
    assert as_ours(ValueError("a mistake of the program")) is None
    assert as_ours(RuntimeError("shapes differ")) is None
    assert isinstance(as_ours(OSError(errno.ENOSPC, "No space left on device")), DiskError)
    ours = ConfigError("--threads 2: out of memory")
    assert as_ours(ours) is ours
    assert resource_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
