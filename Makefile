PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8517
FILM := saved_models/.phantom/images/2_IM-0002-1001.png
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := KERAS_BACKEND=tensorflow TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2
FAST := $(addprefix tests/,data text image explain/regions explain/output explain/dicom protocol)
HARNESS := $(addprefix tests/models/,test_encoders_image.py test_encoders_text.py networks/test_networks.py)
SMALLEST := every_entry and (small-cnn or text-cnn] or transformer) or promises and (tiny-resnet or tiny-vit or tiny-swin)
export TF_CPP_MIN_LOG_LEVEL ?= 3
unexport PYTHONDONTWRITEBYTECODE  # with it, every process of a test compiles kmm anew

.PHONY: help demo install check test test-fast test-large test-backends test-backends-small test-backends-kinds bench clean

help:           ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "kmm needs Python 3.11, 3.12 or 3.13, this is %d.%d. Try: make PYTHON=python3.11 ..." % v)'
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[serve]'
	touch $@

.venv/tested: .venv/installed
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps --upgrade --target .venv/foreign min-tfs-client
	touch $@

.venv/checked: .venv/installed
	$(PIP) --editable '.[check]' pytest
	touch $@

.venv/backends: .venv/tested
	$(PIP) --editable '.[test,jax,torch]'
	touch $@

.venv/benched: .venv/installed
	$(PIP) --editable '.[bench]'
	touch $@

install: .venv/installed  ## make .venv and install kmm into it

demo: install  ## train, evaluate, export, serve and call a classifier on the built-in data set
	$(BIN)/python cli.py fit --name demo --overwrite
	$(BIN)/python cli.py evaluate saved_models/demo saved_models/.phantom
	$(BIN)/python cli.py predict saved_models/demo $(FILM)
	echo 'Heart size is normal. Patchy opacity in the right lower lobe.' > saved_models/.report.txt
	$(BIN)/python cli.py predict saved_models/demo $(FILM) --report saved_models/.report.txt
	$(BIN)/python cli.py export saved_models/demo --json saved_models/.export.json
	@echo '$(BIN)/python cli.py serve saved_models/demo --port $(PORT)'; \
	rm -f saved_models/.serve.log; \
	$(BIN)/python cli.py serve saved_models/demo --port $(PORT) --no-rest > saved_models/.serve.log & server=$$!; \
	trap 'kill $$server; wait $$server' EXIT; \
	for second in $$(seq 120); do grep -qs '^serving' saved_models/.serve.log && break; sleep 1; done; set -ex; \
	$(BIN)/python cli.py call localhost:$(PORT)/demo predict $(FILM) --report saved_models/.report.txt; \
	$(BIN)/python cli.py call localhost:$(PORT)/demo explain $(FILM) --report saved_models/.report.txt --out saved_models/demo-explained
	@echo 'The model card: saved_models/demo/model_card.md. Circles: saved_models/demo-explained'

check: .venv/checked  ## style, import contract, types, examples in docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules kmm -q -p no:cacheprovider

test: .venv/tested  ## the tests but the large ones, on TensorFlow, in two processes of one thread each
	$(PYTEST) --dist worksteal -m 'not large'

test-fast: .venv/tested  ## the quick ones, in a minute: data, text, images, regions, outputs, messages
	$(PYTEST) --dist worksteal -m 'not large' $(FAST)

test-large: .venv/tested  ## the large tests: whole trainings, exports, attacks on a server, kills and resumes
	$(PYTEST) --dist loadfile -m large

test-backends: .venv/backends  ## the tests of models and training, but the large ones, on TensorFlow, JAX and torch
	for backend in tensorflow jax torch; do KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q -m 'not large' tests/models tests/training/test_fit_stage.py tests/training/test_dataset.py tests/training/test_film_changes.py tests/test_backends.py tests/explain/attribution/test_gradients.py tests/explain/attribution/test_integrated_gradients.py tests/explain/attribution/test_methods.py tests/explain/test_backends.py || exit 1; done

test-backends-small: .venv/backends  ## the smallest encoder on JAX and torch, and a saved classifier that they read
	for backend in jax torch; do KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q tests/models/test_encoders_image.py -k small-cnn || exit 1; done
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q tests/test_backends.py -k scores

test-backends-kinds: .venv/backends  ## the smallest encoder of each kind, with each fusion, on JAX and torch
	for backend in jax torch; do KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q $(HARNESS) -k '$(SMALLEST)' || exit 1; done

bench: .venv/benched  ## the figures of the README's table "Speed"
	$(BIN)/python benchmarks/read.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/growth_of_films.py
	$(BIN)/python benchmarks/fit.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/explain.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/serve.py

clean:  ## remove .venv and what tests leave
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build *.egg-info
