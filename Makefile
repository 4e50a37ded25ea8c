# On a fresh machine:  make demo   (installs, runs the main job on generated scenes, ends with a report)
#                      make test   (installs, runs the tests)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean-demo help flickr8k-best

help:
	@echo "make demo        install, generate scenes, train and compare both models, print where the report is"
	@echo "make test        install, run the tests"
	@echo "make flickr8k-best FLICKR8K=folder  the best figures of docs/results.md from raw pictures (hours)"
	@echo "make lint        format check, lint, types"
	@echo "make clean-demo  remove what the demo wrote"

$(VENV)/.venv-made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pictell needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo-installed: pyproject.toml $(VENV)/.venv-made
	$(BIN)/pip install --quiet -e ".[demo]"
	@touch $@

$(VENV)/.dev-installed: pyproject.toml $(VENV)/.venv-made
	$(BIN)/pip install --quiet -e ".[dev]"
	@touch $@

demo: $(VENV)/.demo-installed
	$(BIN)/pictell prepare scenes --out demo/scenes
	$(BIN)/pictell compare configs/demo_rnn.yaml configs/demo_attention.yaml --out demo/compare
	$(BIN)/pictell caption demo/runs/attention demo/scenes/images/scene_00000.jpg --attention --attention_folder demo
	@echo
	@echo "Open the report in a browser:  $(CURDIR)/demo/compare/report.html"
	@echo "Where the model looked:        $(CURDIR)/demo/scene_00000.attention.png"

# Trains what is missing of both, the second from the weights of the first, and compares them.
flickr8k-best: $(VENV)/.demo-installed
	@test -d "$(FLICKR8K)" || { echo "name the folder of Flickr8k: make flickr8k-best FLICKR8K=flickr8k/"; exit 2; }
	$(BIN)/pictell prepare flickr8k "$(FLICKR8K)" --out data/flickr8k
	$(BIN)/pictell compare configs/flickr8k_attention_layers.yaml configs/flickr8k_best.yaml --out runs/flickr8k_best_compare

# A file's tests stay in one process: they share what was trained for them.
test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean-demo:
	rm -rf demo
