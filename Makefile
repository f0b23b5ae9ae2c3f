# Two commands from a fresh machine: `make demo` and `make test`. Each makes its own environment.

VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-all check format wheel clean

demo: $(READY)
	$(BIN)/syllabary demo

test: $(READY)
	$(BIN)/python -m pytest -q -n auto

test-all: $(READY)
	$(BIN)/python -m pytest -q -n auto -m "slow or not slow"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .cache/types && ln -sfn ../.. .cache/types/syllabary
	MYPYPATH=.cache/types $(BIN)/mypy --cache-dir .cache/mypy -p syllabary

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Making an environment in $(VENV): two or three minutes, most of them torch."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[eval,asr,peers,ssl,train,lm,dev]"
	@touch $@

clean:
	rm -rf $(VENV) .cache build dist demo-out *.egg-info
