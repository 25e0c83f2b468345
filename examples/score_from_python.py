"""Score variants from Python; the same scores as `enformer-ray score`, and the same call again resumes or returns them.

make demo  # generates variants, a genome and a toy network in demo-run/input
python examples/score_from_python.py demo-run/input/variants.vcf demo-run/input/genome.fa \
        demo-run/input/model.safetensors demo-run/from-python
"""

import sys

import enformer_ray as e

variants, reference, weights, output = sys.argv[1:]
finished = e.score(variants=variants, reference=reference, weights=weights, output=output, scoring={"threads": 1})
print(finished)
for line in finished.account:
    print(f"{line.alleles:,} alleles {line.status} {line.reason or ''}")
