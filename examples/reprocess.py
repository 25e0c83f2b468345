"""Score a new version of a catalogue: only variants that no previous run has scored in the same way.

python examples/reprocess.py new.vcf genome.fa weights.safetensors runs/2026-10 runs/2026-11
"""

import sys

import enformer_ray as e

variants, reference, weights, previous, output = sys.argv[1:]
job = e.JobConfig(
    variants=variants,
    previous=previous,
    reference=reference,
    weights=weights,
    output=output,
    scoring={"threads": 1},  # the rest as in the previous run, or none of its scores can be taken
)

expected = e.preview(job, kind="reprocess")  # reads the input, writes nothing
print(f"{dict(expected.reuse.origins)}; {expected.variants} to score")

finished = e.reprocess(job, on_progress=lambda step: print("done:", type(step).__name__))
print(finished)
