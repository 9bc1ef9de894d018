# make demo    sets up .venv and runs the program on the sample radiographs
# make test    sets up .venv, checks style and types, runs the tests
# make serve   sets up .venv and starts the MONAI Label server (docs/server.md)
# make test-slicer  the tests of the Slicer extension alone, in .venv-slicer (part of make test)
# make bundle  trains, measures and describes a model bundle (docs/training.md)
# TORCH=cpu|cuda chooses the build of PyTorch (without it: the GPU build where a GPU is found)

TORCH ?= auto
VENV := .venv
PY := $(VENV)/bin/python
OUT := out
SAMPLES := core/dino_diffusion/samples
DINO_DIFFUSION := $(VENV)/bin/dino-diffusion
# One stamp a choice of TORCH; it holds until pyproject.toml, constraints.txt or the choice changes.
STAMP := $(VENV)/.installed-$(TORCH)

# The Slicer extension is tested with the real Slicer libraries, which live in an environment of their own.
SLICER_VENV := .venv-slicer
SLICER_PY := $(SLICER_VENV)/bin/python
SLICER_STAMP := $(SLICER_VENV)/.installed

# Idle OpenMP threads sleep instead of spinning: faster wherever something else runs too.
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(filter $(TORCH),auto cpu cuda),)
$(error TORCH=$(TORCH) is unknown: use TORCH=cpu or TORCH=cuda, or leave it out)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve test test-slicer check lint clean bundle install-bundle

help:
	@echo "make demo    label the sample radiographs and generate new ones, into $(OUT)/"
	@echo "make serve STUDIES=folder|dicomweb-url PORT=8000 [SERVE=more options]"
	@echo "             the server for 3D Slicer and MONAI Label clients; sample radiographs without STUDIES"
	@echo "make test    style, types and tests"
	@echo "make test-slicer  the tests of the Slicer extension alone"
	@echo "make check   the slower tests"
	@echo "make lint    style and types alone"
	@echo "make bundle DATA=list.csv SCALE=cpu|gpu|smoke BUNDLE=runs/bundle [INIT=bundle to go on from]"
	@echo "             train, assemble, measure and describe a model; what is finished is skipped"
	@echo "make install-bundle BUNDLE=runs/bundle"
	@echo "             make it the default one unless its figures are worse (FORCE=1: even then)"
	@echo "make setup   only install, into $(VENV)/"
	@echo "make clean   remove $(VENV)/, $(OUT)/ and caches"
	@echo "TORCH=cpu or TORCH=cuda chooses the build of PyTorch, PYTHON=... the Python to start from"

setup: $(STAMP)

demo: $(STAMP)
	$(DINO_DIFFUSION) segment $(SAMPLES) -o $(OUT)/segment --overlay
	$(DINO_DIFFUSION) generate -n 4 -o $(OUT)/generate
	@echo
	@echo "Labelmaps and overlays: $(abspath $(OUT))/segment"
	@echo "Generated radiographs:  $(abspath $(OUT))/generate"

STUDIES ?=
PORT ?= 8000
# More options of the command, such as SERVE="--host 0.0.0.0".
SERVE ?=
serve: $(STAMP)
	@$(DINO_DIFFUSION) serve --port $(PORT) $(if $(STUDIES),--studies "$(STUDIES)") $(SERVE)

test: lint
	$(PY) -m pytest -q
	@$(MAKE) --no-print-directory test-slicer

# Headless: Qt draws into memory, VTK falls back to software rendering by itself.
test-slicer: $(STAMP) $(SLICER_STAMP)
	QT_QPA_PLATFORM=offscreen $(SLICER_PY) -m pytest -q -c tests/slicer/pytest.ini tests/slicer

check: $(STAMP)
	$(PY) -m pytest -q -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

# Training: SCALE chooses the recipes, RUNS holds a folder a part, and a part whose folder has .trained is done.
# Prerequisites behind | only have to be there: a decoder that learns further needs no new denoiser.
SCALE ?= cpu
RUNS ?= runs
BUNDLE ?= $(RUNS)/bundle
# Where encoder.toml names no backbone of yours: a folder or a Hugging Face name.
BACKBONE ?=
# Any settings of all four parts, such as SET="--set run.minutes=10".
SET ?=
ifeq ($(SCALE),smoke)
DATA ?= $(RUNS)/smoke-data/pictures
BACKBONE := $(or $(BACKBONE),$(RUNS)/smoke-data/backbone)
DRAWN := $(RUNS)/smoke-data/.drawn
# The drawn pictures belong to no split.
MEASURE ?= --holdout "" --limit 4 --samples 10
else
DATA ?= ../shared/data/cxr/metadata.csv
MEASURE ?= --samples 200
endif
RUN := $(RUNS)/$(SCALE)
# A bundle's folder to go on from: its encoder and autoencoder stay, its denoiser learns further.
INIT ?=
ENCODER := $(if $(INIT),$(INIT)/encoder,$(RUN)-encoder/weights)
AUTOENCODER := $(if $(INIT),$(INIT)/autoencoder,$(RUN)-autoencoder/weights)
GROUNDS := $(if $(INIT),,$(foreach part,encoder autoencoder,$(RUN)-$(part)/.trained))
TRAINED := $(GROUNDS) $(foreach part,denoiser readout,$(RUN)-$(part)/.trained)
TRAIN = $(DINO_DIFFUSION) train $(1) $(SCALE)/$(1) --set run.folder=$(@D) --set data.path=$(DATA) $(SET)
PARTS = --set encoder=$(ENCODER) --set autoencoder=$(AUTOENCODER)

bundle: $(BUNDLE)/README.md

install-bundle: $(STAMP)
	$(DINO_DIFFUSION) install-bundle $(BUNDLE) $(if $(filter 1,$(FORCE)),--force)
	$(DINO_DIFFUSION) samples -o $(SAMPLES)

$(RUN)-encoder/.trained: | $(STAMP) $(DRAWN)
	$(call TRAIN,encoder) $(if $(BACKBONE),--set backbone=$(BACKBONE))
	@touch $@

$(RUN)-autoencoder/.trained: | $(STAMP) $(DRAWN)
	$(call TRAIN,autoencoder)
	@touch $@

$(RUN)-denoiser/.trained: | $(STAMP) $(GROUNDS)
	$(call TRAIN,denoiser) $(PARTS) $(if $(INIT),--init $(INIT))
	@touch $@

$(RUN)-readout/.trained: | $(RUN)-denoiser/.trained
	$(call TRAIN,readout) $(PARTS) --set denoiser=$(RUN)-denoiser/weights
	@touch $@

$(BUNDLE)/model_index.json: $(TRAINED)
	$(DINO_DIFFUSION) assemble --encoder $(ENCODER) --autoencoder $(AUTOENCODER) \
	    $(foreach part,denoiser readout,--$(part) $(RUN)-$(part)) --latents $(RUN)-denoiser/latents -o $(BUNDLE)

$(BUNDLE)/README.md: $(BUNDLE)/model_index.json
	$(DINO_DIFFUSION) evaluate bundle --bundle $(BUNDLE) --data $(DATA) --latents $(RUN)-denoiser/latents \
	    $(MEASURE) --missing -o $(BUNDLE).figures.json
	$(DINO_DIFFUSION) card --bundle $(BUNDLE) --figures $(BUNDLE).figures.json

$(RUNS)/smoke-data/.drawn: | $(STAMP)
	$(PY) scripts/draw_smoke_data.py $(@D)
	@touch $@

$(STAMP): pyproject.toml constraints.txt scripts/install_torch.py
	@python="$$(sh scripts/find_python.sh)" || exit 1; \
	if ! sh scripts/find_python.sh $(PY) >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); \
	fi
	@# Older versions of pip download a whole wheel to answer what they would install.
	$(PY) -m pip install --quiet "pip>=24"
	$(PY) scripts/install_torch.py $(TORCH)
	@echo "Installing the other packages, in the versions of constraints.txt (a few minutes)"
	$(PY) -m pip install -c constraints.txt -e ".[dev,evaluation,server]"
	@# With their requirements they would bring torchvision, sam2, all of ITK and an older numpy (docs/server.md).
	$(PY) -m pip install -c constraints.txt --no-deps monailabel pydicom-seg
	@rm -f $(VENV)/.installed-* && touch $@

$(SLICER_STAMP): tests/slicer/requirements.txt tests/slicer/constraints.txt
	@python="$$(sh scripts/find_python.sh)" || exit 1; \
	if ! sh scripts/find_python.sh $(SLICER_PY) >/dev/null 2>&1; then \
	    echo "Making $(SLICER_VENV) with $$python"; "$$python" -m venv --clear $(SLICER_VENV); \
	fi
	@echo "Installing the Slicer libraries for the tests of the extension (1.1 GB, a minute)"
	$(SLICER_PY) -m pip install --quiet -c tests/slicer/constraints.txt -r tests/slicer/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(SLICER_VENV) $(OUT) build core/*.egg-info .pytest_cache .mypy_cache .ruff_cache
