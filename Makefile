# `make demo`, `make test` and `make lint` need Python 3.11 or newer, and nothing else.

VENV ?= .venv
PYTEST_ARGS ?= -q -n auto --dist worksteal
PY := $(VENV)/bin/python
# Tests start hundreds of programs, each of which would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

# The first interpreter that is new enough, starts, and can make virtual environments.
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done

.PHONY: demo test lint docs clean

demo: $(VENV)/.ready-cpu
	$(PY) cli.py demo --force

test: $(VENV)/.ready-dev
	@echo "every test, on all cores: about four minutes on two idle ones"
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(VENV)/.ready-cpu
	$(PY) tests/test_docs.py

# One rule for both: `make demo` installs what the demo needs, `make test` what the tests need.
$(VENV)/.ready-%: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer that can make virtual environments (python3, python3.11 to python3.14)" >&2; \
		echo "hint: install one (Debian, Ubuntu: apt install python3 python3-venv), or: make PYTHON=/path/to/python" >&2; \
		exit 4; \
	fi; \
	echo "$$python -m venv $(VENV)"; "$$python" -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist onnxtweak-demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
