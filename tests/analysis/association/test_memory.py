"""Memory of an analysis grows by less than 100 bytes a variant (prints how many: pytest -s)."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np, pyarrow as pa
from enformer_ray.analysis.association.assays import TrackBatch
from enformer_ray.analysis.association.associate import analyse
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.options import AssociationOptions

rows, shifts = int(sys.argv[1]), int(sys.argv[2])
names = [f"track_{t:04d}" for t in range(3)]

def study() -> Study:
    random = np.random.default_rng(0)
    z = random.standard_normal(rows, dtype=np.float32)
    z[:: rows // 500] = 7
    return Study(
        variant=np.arange(rows),
        chromosome=np.repeat(np.arange(20, dtype=np.int16), rows // 20),
        position=np.tile(np.arange(rows // 20, dtype=np.int32) * (120_000_000 // (rows // 20)) + 1, 20),
        z=z,
        chi_square=z * z,
        log_p=(-z * z / 2).astype(np.float32),
        minor_frequency=random.random(rows, dtype=np.float32) / 2,
        pip=np.full(rows, np.nan, dtype=np.float32),
        in_set=np.zeros(rows, dtype=bool),
        unknown=np.zeros(rows, dtype=np.int32),
        indel=np.arange(rows) % 11 == 0,
        names=tuple(map(str, range(20))),
    )

def read(columns, variants):
    for name in columns:
        random = np.random.default_rng(int(name[-1]))
        yield TrackBatch([name], random.standard_normal(rows, dtype=np.float32)[:, None])

tracks = pa.table({"column": names, "assay": ["CAGE", "DNASE", "CAGE"], "description": names})
found = analyse(study(), tracks, read, AssociationOptions(permutations=shifts or None))
assert found.summary["enrichment"]["computed"]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""

FEW, MANY = 1_000_000, 10_000_000


def peak(rows: int, shifts: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(rows), str(shifts)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shifts", [0, 10_000])
def test_memory_of_a_variant(shifts: int) -> None:
    of_a_variant = (peak(MANY, shifts) - peak(FEW, shifts)) / (MANY - FEW)
    print(f"{of_a_variant:.0f} bytes a variant with {shifts} shifts")
    assert of_a_variant <= 100
