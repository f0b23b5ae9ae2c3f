# Two commands from a fresh machine: `make demo` and `make test`. Each makes its own environment.

VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# Where type checkers and editors find this folder by the name `syllabary`, whatever it is called.
TYPES = .cache/types/syllabary
# Each worker begins with a stretch of the tests, so that what a file's tests share is made once, and
# kernels are not compiled by two workers at the same time; who is done helps the others.
PARALLEL = -n auto --dist worksteal

.PHONY: demo test test-all test-processors golden check format wheel clean

demo: $(READY)
	$(BIN)/syllabary demo

test: $(READY)
	$(BIN)/python -m pytest -q $(PARALLEL)

test-all: $(READY)
	$(BIN)/python -m pytest -q $(PARALLEL) -m "slow or not slow"

# Every promise about processors, with this one held to what older ones have.
test-processors: $(READY)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "slow or not slow" -k processors

# Codes and samples of the tokenizers that ship, for the tests: after shipped weights have changed.
golden: $(READY)
	$(BIN)/python tests/processors/golden.py write

check: $(READY) $(TYPES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# From there: here, `codecs` would be our folder to mypy and not the standard library's module.
	cd $(dir $(TYPES)) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p syllabary

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

$(READY): pyproject.toml constraints.txt | $(TYPES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Making an environment in $(VENV): two or three minutes, most of them torch."
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[scores,asr,peers,ssl,published,train,lm,serve,dev]"
	@$(PIP) pesq >$(VENV)/pesq.txt 2>&1 || \
	  echo "PESQ is left out: its package has no wheel, and building it failed (it needs gcc and Python's headers; $(VENV)/pesq.txt)"
	@touch $@

$(TYPES):
	@mkdir -p $(@D) && ln -sfn ../.. $@

clean:
	rm -rf $(VENV) .cache build dist demo-out *.egg-info
