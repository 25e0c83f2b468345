"""Score every substitution of a region, and find the bases that matter most.

python examples/saturation.py chr1:97151-97167 demo-run/input/genome.fa \
        demo-run/input/model.safetensors demo-run/saturated
"""

import sys

import pyarrow.parquet as pq

import enformer_ray as e

region, reference, weights, output = sys.argv[1:]
saturated = e.saturate(
    regions=[region], reference=reference, weights=weights, output=output, scoring={"tracks": ["0"], "threads": 1}
)
print(f"{saturated.importance.bases} bases: {saturated.importance.paths}")

# One row for each base: what it contributes to each track. docs/saturation.md has the formulas.
importance = pq.read_table(f"{output}/saturation/importance-sad.parquet")
for row in sorted(importance.to_pylist(), key=lambda row: -abs(row["track_0000"]))[:5]:
    print(row["chromosome"], row["position"], row["reference_base"], round(row["track_0000"], 4))
