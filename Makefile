# make demo | make demo MODALITY=wfci | make test — each builds what it needs in .venv and runs.
PYTHON ?= python3
VENV   ?= .venv
RECORDING ?=
MODALITY ?= eeg
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint bench clean

demo: $(STAMP)
	LSLAPICFG=$(CURDIR)/lsl_api.cfg $(BIN)/streamscore demo --modality $(MODALITY) $(RECORDING)

test: $(STAMP) lint
	LSLAPICFG=$(CURDIR)/lsl_api.cfg $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	LSLAPICFG=$(CURDIR)/lsl_api.cfg $(BIN)/streamscore bench

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
