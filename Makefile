# Each target sets itself up: it needs Python 3.11 or newer, pip and make, nothing else.
#
#   make demo     build and fit examples/radon, beside its reference posterior
#   make test     the tests
#   make lint     ruff, black, mypy
#   make bench    the benchmarks: ratios against other tools, measured in one run
#   make posteriors   real posteriors beside their references, in the folder that GUIDEDSL_CASES names; SEEDS="1 2 3"
#   make clean    remove .venv, caches and build outputs
#
# Another interpreter: make test PYTHON=python3.12. One process, or one file: make test PYTEST_ARGS="-n 0 tests/unit".

PYTHON ?= python3
PYTEST_ARGS ?= -n 2
SEEDS ?= 1 2 3

# Torch goes first and by exact version: whatever else asks for torch then finds it there. pip's own settings decide
# which build that is; on Linux the default one brings CUDA along, which nothing here needs.
TORCH ?= torch==2.13.0

BIN := .venv/bin
INSTALLED := .venv/installed

unexport PYTHONDONTWRITEBYTECODE # tests start processes by the hundred

.PHONY: demo test lint bench posteriors clean

demo: $(INSTALLED)
	$(BIN)/python examples/radon/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/black --check --quiet --diff .
	$(BIN)/mypy

bench: $(INSTALLED)
	@status=0; for script in benchmarks/[!_]*.py; do \
		echo "$$script"; $(BIN)/python "$$script" || status=1; done; exit $$status

posteriors: $(INSTALLED)
	$(BIN)/python examples/posteriors/compare.py --seeds $(SEEDS)

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-compile $(TORCH)
	$(BIN)/python -m pip install --no-compile --requirement constraints.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@
