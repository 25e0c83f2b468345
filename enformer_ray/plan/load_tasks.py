"""Reading the parts of variant files: in this process when there is one, as Ray tasks on this machine otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from enformer_ray.catalogue.load import LoadedPart, load_part
from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome, read_contig_aliases
from enformer_ray.plan.job import Job
from enformer_ray.readers.bgzf import Part
from enformer_ray.runtime.cluster import ray_session
from enformer_ray.runtime.tasks import run_tasks

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
            yield from run_tasks(
                load_elsewhere,
                (
                    (part, job.config.reference, catalogue.contig_aliases, catalogue, folder / str(number))
                    for number, part in enumerate(parts)
                ),
                in_flight=lambda: lanes + 1,
                task="reads a part of a variant file",
                advice="Too little memory is the usual cause: a task needs about 1 GiB; plan on a larger machine.",
                in_order=True,
            )

    return load


def load_elsewhere(
    part: Part, reference: Path, aliases: Path | None, config: CatalogueConfig, folder: Path
) -> LoadedPart:
    """Load a part in a process that has nothing open; what an attempt that died has left is thrown away."""
    shutil.rmtree(folder, ignore_errors=True)
    genome = ReferenceGenome(reference, read_contig_aliases(aliases) if aliases else None)
    return load_part(part, genome, config, folder)
