"""Reading the parts of variant files: in this process when there is one, as Ray tasks on this machine otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import EnformerRayError, WorkersLostError
from enformer_ray.genome import ReferenceGenome
from enformer_ray.run.cluster import ray_session
from enformer_ray.run.job import Job
from enformer_ray.variants.aliases import read_contig_aliases
from enformer_ray.variants.load import LoadedPart, load_part
from enformer_ray.variants.parts import Part

_RETRIES = 3
_LANES = 8


def part_loader(
    job: Job, watch: Callable[[], None] = lambda: None
) -> Callable[[Sequence[Part], Path], Iterator[LoadedPart]]:
    """What loads the parts of one file for the catalogue of a job.

    Args:
        job: the job.
        watch: called once Ray has put its own signal handlers in place.
    """
    catalogue = job.config.catalogue

    def load(parts: Sequence[Part], folder: Path) -> Iterator[LoadedPart]:
        lanes = min(os.cpu_count() or 1, _LANES, len(parts))
        if lanes == 1:
            for number, part in enumerate(parts):
                yield load_part(part, job.reference, catalogue, folder / str(number))
            return
        # A cluster's other machines cannot write to this one's folder.
        with ray_session(None, lanes):
            watch()
            yield from _on_ray(job, parts, folder, lanes)

    return load


def load_elsewhere(
    part: Part, reference: Path, aliases: Path | None, config: CatalogueConfig, folder: Path
) -> LoadedPart:
    """Load a part in a process that has nothing open; what an attempt that died has left is thrown away."""
    shutil.rmtree(folder, ignore_errors=True)
    genome = ReferenceGenome(reference, read_contig_aliases(aliases) if aliases else None)
    return load_part(part, genome, config, folder)


def _on_ray(job: Job, parts: Sequence[Part], folder: Path, lanes: int) -> Iterator[LoadedPart]:
    import ray

    catalogue = job.config.catalogue
    remote: Any = ray.remote(load_elsewhere)
    submit = remote.options(num_cpus=1, max_retries=_RETRIES).remote
    waiting: list[Any] = []
    try:
        for number, part in enumerate(parts):
            waiting.append(
                submit(part, job.config.reference, catalogue.contig_aliases, catalogue, folder / str(number))
            )
            if len(waiting) > lanes:
                yield _result(waiting.pop(0))
        while waiting:
            yield _result(waiting.pop(0))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _result(reference: Any) -> LoadedPart:
    import ray

    try:
        loaded: LoadedPart = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EnformerRayError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise WorkersLostError(
            f"a task that reads a part of a variant file died {_RETRIES + 1} times, the last time with "
            f"{type(error).__name__}: {' '.join(str(error).split())}. Too little memory is the usual cause: a task "
            "needs about 1 GiB; plan on a larger machine."
        ) from None
    return loaded
