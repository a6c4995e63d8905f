# The two commands: `make train` trains, evaluates and reports the main job; `make test` runs the
# suite. Both set up .venv first, once, and again when what it is made from changes.

TASK ?= aliengo
ALGORITHM ?= hinf
OUTPUT ?= runs/$(TASK)
EXTRAS ?= brax,dev,docs,notebooks,video
# The order of files is that of tests/conftest.py: slow ones first.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-long test-installed lint format docs docs-serve

help:
	@echo "make train    train, evaluate and report $(TASK); run it again to go on where it stopped"
	@echo "make test     run the tests"
	@echo "make test-long  run the small whole experiments that make test leaves out"
	@echo "make test-installed SET=oldest   try the wheel in an empty environment; SET=newest, py311, ..."
	@echo "make lint     check style and types"
	@echo "make format   format the code"
	@echo "make docs     build the documentation into site/"
	@echo "make setup    make or renew .venv"
	@echo "Variables: TASK, ALGORITHM, OUTPUT, PYTHON, PYTEST_ARGS; for example make train TASK=cartpole"

setup: $(STAMP)

# The version of the Python inside .venv chooses the constraints, whatever python3 is by now; gymnax
# fits those of 3.11 only (see the extra in pyproject.toml).
$(STAMP): pyproject.toml constraints/py311.txt constraints/py312.txt
	@PYTHON="$(PYTHON)" sh constraints/make_venv.sh
	version=$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])') && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints/py$$version.txt -e ".[$(EXTRAS)$$(test $$version != 311 || echo ,gymnax)]"
	@touch $@

# --resume starts a run where there is none and goes on with one that was stopped.
train: $(STAMP)
	$(BIN)/hinf-rl train $(TASK) --algorithm $(ALGORITHM) --output $(OUTPUT) --resume
	$(BIN)/hinf-rl evaluate $(OUTPUT)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m long

# An environment of its own, outside this folder; SET names a file of constraints/.
SET ?= oldest
test-installed:
	$(if $(PYTHON),$(PYTHON),python3) tests/system/installed.py $(SET) $(PYTHON)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Warnings are errors.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve
