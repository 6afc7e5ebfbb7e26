# make demo | compare | test | check | lint | style | bench | gpu-check | pictures: each makes the environment first if it is missing or old.
# VENV=path puts the environment elsewhere; EXTRA=cuda130 takes another build of DALI; PYTHON=python3.12 another Python.
PYTHON ?= python3
# DALI's build for CUDA 11 ends at Python 3.12; newer Pythons take that for CUDA 13.
EXTRA ?= $(shell $(PYTHON) -c 'import sys; print("cuda110" if sys.version_info < (3, 13) else "cuda130")' 2>/dev/null)
# DALI's builds own the same files, so each has an environment of its own.
VENV ?= $(if $(filter cuda110,$(EXTRA)),.venv,.venv-$(EXTRA))

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRA)

.PHONY: demo compare test check lint style bench gpu-check pictures env
.DEFAULT_GOAL := help

help:
	@sed -n 1,2p Makefile

env: $(STAMP)

# The environment matches as long as what it was made from does not change.
$(STAMP): setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; Python 3.10 to 3.14 is needed" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; newest = 12 if "$(EXTRA)" == "cuda110" else 14; sys.exit(not (3, 10) <= v <= (3, newest) and f"error: {sys.executable} is Python {v[0]}.{v[1]}; DALI (EXTRA=$(EXTRA)) needs 3.10 to 3.{newest}: make PYTHON=python3.{newest} ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA),dev]'
	touch $@

demo: env
	$(BIN)/python demo.py

# All methods on all three tasks, and rgb + flow fused: SEEDS="0 1 2" trains once with each. The additive task takes the published rate: at three
# times that and more, misa's other terms make all clips alike before cls tells them apart, and it may stay there.
SEEDS ?= 0
compare: env
	$(BIN)/python demo.py --methods all --seeds $(SEEDS) --tasks additive --set train.lr=1.0e-4 loader.batch_size=8 train.epochs=20 train.lr_patience=20 train.stop_patience=10
	$(BIN)/python demo.py --methods all --seeds $(SEEDS) --tasks xor binding

test: env
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What a change is tried with while it is made: lint, types and the fast tests.
check: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

style: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On other data: make bench CONFIG=configs/xnorm.yaml, with its train split packed.
CONFIG ?= configs/demo.yaml
bench: env
ifeq ($(CONFIG),configs/demo.yaml)
	$(BIN)/python preprocess/synth.py -o demo/data
	$(BIN)/python preprocess/pack.py -c $(CONFIG)
endif
	$(BIN)/python -m benchmarks.write -c $(CONFIG)

# What only a GPU can show, in ten minutes (without one, a dry run): tables here, all figures in gpu-check.json.
# CUDA 12 and 13: make gpu-check EXTRA=cuda130. Other settings: make gpu-check SET="loader.num_threads=16 loader.batch_size=64"
gpu-check: env
	$(BIN)/python -m benchmarks.gpu_check --json gpu-check.json $(SET)

# Those of the documents, and an example of a page, from the demos' data; about five minutes.
pictures: env
	$(BIN)/python docs/pictures.py
