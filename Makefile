# make run    a local cluster in the foreground, until Ctrl-C; what it stores is kept in $(DIR)
# make test   every test; `make test ARGS=neo/tests/protocol` for some of them
# make check  what to run before each commit
# Nothing is needed but Debian or Ubuntu with python3 >= 3.11, make and git.

VENV = .venv
DIR = var
ARGS = neo/tests
JOBS = 2

.PHONY: run test check install clean

run: $(VENV)/.installed
	@exec $(VENV)/bin/python -m neo.scripts.neosimple --storages 2 --replicas 1 \
	    --self-test --dir $(DIR)

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -q -n $(JOBS) --dist loadscope $(ARGS)

check: $(VENV)/.installed-test
	$(VENV)/bin/python tools/check

install: $(VENV)/.installed

# Stamps: nothing is installed again until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml tools/make-venv
	tools/make-venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml tools/make-venv
	tools/make-venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
