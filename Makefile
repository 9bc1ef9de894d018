# make demo    sets up .venv and runs the program on the sample radiographs
# make test    sets up .venv, checks style and types, runs the tests
# TORCH=cpu|cuda chooses the build of PyTorch (without it: the GPU build where a GPU is found)

TORCH ?= auto
VENV := .venv
PY := $(VENV)/bin/python
OUT := out
SAMPLES := core/dino_diffusion/samples
# One stamp a choice of TORCH; it holds until pyproject.toml, constraints.txt or the choice changes.
STAMP := $(VENV)/.installed-$(TORCH)

# Idle OpenMP threads sleep instead of spinning: faster wherever something else runs too.
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(filter $(TORCH),auto cpu cuda),)
$(error TORCH=$(TORCH) is unknown: use TORCH=cpu or TORCH=cuda, or leave it out)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check lint clean

help:
	@echo "make demo    label the sample radiographs and generate new ones, into $(OUT)/"
	@echo "make test    style, types and tests"
	@echo "make check   the slower tests"
	@echo "make lint    style and types alone"
	@echo "make setup   only install, into $(VENV)/"
	@echo "make clean   remove $(VENV)/, $(OUT)/ and caches"
	@echo "TORCH=cpu or TORCH=cuda chooses the build of PyTorch, PYTHON=... the Python to start from"

setup: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/dino-diffusion segment $(SAMPLES) -o $(OUT)/segment --overlay
	$(VENV)/bin/dino-diffusion generate -n 4 -o $(OUT)/generate
	@echo
	@echo "Labelmaps and overlays: $(abspath $(OUT))/segment"
	@echo "Generated radiographs:  $(abspath $(OUT))/generate"

test: lint
	$(PY) -m pytest -q

check: $(STAMP)
	$(PY) -m pytest -q -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

$(STAMP): pyproject.toml constraints.txt scripts/install_torch.py
	@python="$$(sh scripts/find_python.sh)" || exit 1; \
	if ! sh scripts/find_python.sh $(PY) >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); \
	fi
	@# Older versions of pip download a whole wheel to answer what they would install.
	$(PY) -m pip install --quiet "pip>=24"
	$(PY) scripts/install_torch.py $(TORCH)
	@echo "Installing the other packages, in the versions of constraints.txt (a few minutes)"
	$(PY) -m pip install -c constraints.txt -e ".[dev,evaluation]"
	@rm -f $(VENV)/.installed-* && touch $@

clean:
	rm -rf $(VENV) $(OUT) build core/*.egg-info .pytest_cache .mypy_cache .ruff_cache
