# The two commands that do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: demo test lint format clean

demo: $(DONE)  ## train, pack and run RBNN, AdaBin, ReBNN and their parent on embedded digits; prints one table
	$(BIN)/python -m onebit.report

test: $(DONE)  ## all tests, warnings as errors
	$(BIN)/python -m pytest -q

lint: $(DONE)  ## formatting, lint and types, as CI checks them
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*.cc' 'csrc/*.h')

format: $(DONE)  ## rewrite the sources in the house format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.cc' 'csrc/*.h')

$(DONE): pyproject.toml CMakeLists.txt $(shell git ls-files csrc 2>/dev/null || find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) build
