# `make demo` and `make test` set up everything they need: a virtual environment with the pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-model test slow-tests trials driver-bench slurm-trial bench gpu-check gpu-bundle fuzz check format docs-reference clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,sonnet]'
	touch $@

demo: $(STAMP)  ## the whole life of a run on a small generated world, whose truth is known
	$(BIN)/enformer-ray demo

demo-model: $(STAMP)  ## train the demo's network and write it where the package ships it (25 minutes on one core)
	$(BIN)/python tools/train_demo.py --output enformer_ray/demo/model.safetensors

test: $(STAMP)  ## everyday tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

slow-tests: $(STAMP)  ## longer tests: real data, one trial of each kind of fault
	$(BIN)/python -m pytest -m slow

# A file that a reader fails at is kept in fuzz-findings/, with the command that looks at it again.
fuzz: $(STAMP)  ## changed files for each reader, a bounded time each: make fuzz SECONDS=20 SEED=1
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),20) --seed $(or $(SEED),1)

# As root, disks are filled too (a small tmpfs is mounted for such a trial). JOBS trials run at a time.
trials: $(STAMP)  ## runs disturbed at random moments: make trials N=100 SEED=1 JOBS=1 (half a minute each, and more)
	$(BIN)/python -m tests.faults.trials --n $(or $(N),100) --seed $(or $(SEED),1) --jobs $(or $(JOBS),1)

driver-bench: $(STAMP)  ## one driver from 10^2 to 10^5 shards of a model that returns at once, and how busy workers are
	$(BIN)/python benchmarks/bench_driver.py
	$(BIN)/python benchmarks/bench_driver.py --busy

# As root, Slurm and munge are installed when they are missing; the trial's own Slurm lives in a temporary folder.
slurm-trial: $(STAMP)  ## the Slurm script on a one-machine Slurm: requeued half-way, twice, and completed (4 minutes)
	@command -v slurmctld slurmd munged >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; }
	$(BIN)/python -m tests.cluster.slurm_trial $(TRIAL)

# The peer pins an old transformers that excludes today's huggingface-hub; its network runs with a new one.
bench: $(STAMP)  ## ratios: one attention layer, rounding, and variants/s against enformer-pytorch (an hour on 2 cores)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/pip install --quiet --no-deps enformer-pytorch==0.8.12
	$(BIN)/python benchmarks/bench_attention.py
	$(BIN)/python benchmarks/bench_rounding.py
	$(BIN)/python benchmarks/bench_reuse.py
	$(BIN)/python benchmarks/bench_saturate.py
	$(BIN)/python benchmarks/bench_genes.py
	$(BIN)/python benchmarks/bench_reprocess.py
	@command -v bcftools >/dev/null && $(BIN)/python benchmarks/bench_plan.py || echo "bench_plan.py needs bcftools"

# Where torch is there already: PYTHONPATH=. python benchmarks/gpu_check.py (benchmarks/README.md).
gpu-check: $(STAMP)  ## what the scorer does on one GPU, in six minutes: make gpu-check SECONDS=360, or TINY=1 on a CPU
	$(BIN)/python benchmarks/gpu_check.py --seconds $(or $(SECONDS),360) $(if $(TINY),--tiny)

# No torch and no numpy: a machine with a GPU has its own. The last one is the peer of the benchmarks.
BUNDLE ?= annotated-types pydantic pydantic_core typing-inspection typing_extensions PyYAML safetensors pyarrow \
  packaging pyfaidx enformer-pytorch==0.8.12 einops

gpu-bundle:  ## wheels that such a machine may lack, into gpu-bundle/: make gpu-bundle PYTHON_VERSION=3.12
	rm -rf gpu-bundle
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version $(or $(PYTHON_VERSION),3.12) \
	  --implementation cp $(foreach n,28 27 24 17 12 5,--platform manylinux_2_$(n)_x86_64) \
	  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
	  --constraint constraints.txt --dest gpu-bundle $(BUNDLE)
	@du -sh gpu-bundle

check: $(STAMP)  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs-reference: $(STAMP)  ## the reference page of the job file, from the models that check job files
	PYTHONPATH=. $(BIN)/python tools/write_job_reference.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-run gpu-check gpu-bundle
