# Everything sets itself up: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEBIAN := build/debian/ready
export TRANSFORMERS_VERBOSITY := error

.PHONY: demo test lint stickers bench

demo: $(READY)
	@$(BIN)/python examples/demo.py

test: $(READY) $(DEBIAN)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

stickers: $(READY) $(DEBIAN)
	$(BIN)/python -m stickers
	$(BIN)/python -m benchmarks.stickers
	$(BIN)/python -m benchmarks.documents

bench: $(READY) $(DEBIAN)
	$(BIN)/python -m benchmarks.learn

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev --editable .
	@touch $@

# The font and the names that the sticker world is drawn from: unpacked here, not installed.
$(DEBIAN):
	@mkdir -p build/debian
	@if [ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] && \
	    [ -e /usr/share/unicode/cldr/common/annotations/en.xml ]; then :; \
	else cd build/debian && apt-get download fonts-noto-color-emoji unicode-cldr-core && \
	    for package in *.deb; do dpkg -x $$package .; done; fi
	@touch $@
