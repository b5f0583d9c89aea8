# Everything sets itself up: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
BENCH := .venv/bench
DEBIAN := build/debian/ready
BROWSER := build/browser/ready
AXE := axe-core@4.14.1
HALF := bench_small editing_benchmark embedded readme runtimes shared stickers tour door privacy queue quiet devices models web_jobs
ONE_HALF := $(HALF:%=tests/test_%.py)
OTHER_HALF := $(filter-out $(ONE_HALF),$(wildcard tests/test_*.py))
PACKAGES := fonts-noto-color-emoji unicode-cldr-core
export TRANSFORMERS_VERBOSITY := error

.PHONY: demo test lint docs package stickers bench bench-small campaign mutants

demo: $(READY)
	@$(BIN)/python examples/demo.py

# Two halves of the time, side by side, one for each core. Threads that wait must not keep a core busy.
test: export OMP_WAIT_POLICY := passive
test: $(READY) $(DEBIAN) $(BROWSER)
	@$(BIN)/python -m pytest $(OTHER_HALF:%=--ignore=%) >build/half.log 2>&1 & half=$$!; \
	trap 'kill $$half 2>/dev/null' INT TERM; \
	$(BIN)/python -m pytest $(ONE_HALF:%=--ignore=%); rest=$$?; \
	wait $$half; status=$$?; cat build/half.log; \
	[ $$rest -eq 0 ] && [ $$status -eq 0 ]

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/zensical build --clean --strict
	@! grep -rnoE '<(script|link|img)[^>]* (src|href)="?https?://[^>]*\.(js|css|png|svg|woff2?)[^>]*>' \
	    build/site --include='*.html' # nothing from elsewhere

package: $(READY)
	@rm -rf build/package
	$(BIN)/python -m build --no-isolation --outdir build/package
	$(BIN)/python -m tests.package build/package

stickers: $(READY) $(BENCH) $(DEBIAN)
	$(BIN)/python -m stickers
	$(BIN)/python -m benchmarks.stickers
	$(BIN)/python -m benchmarks.documents

# A day and more on two cores; the same command goes on. What is timed comes first, while nothing
# else runs.
bench: $(READY) $(BENCH) $(DEBIAN)
	$(BIN)/python -m benchmarks.evidence.seconds
	$(BIN)/python -m benchmarks.learn
	$(BIN)/python -m benchmarks.unseen
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.evidence --tuning
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.evidence --table styles
	$(BIN)/python -m benchmarks.evidence --table ablations
	$(BIN)/python -m benchmarks.evidence --model stickers-flow
	$(BIN)/python -m benchmarks.evidence.memory
	$(BIN)/python -m benchmarks.evidence.distribution
	$(BIN)/python -m benchmarks.rank_one
	$(BIN)/python -m benchmarks.documents

# The directions of the simplest claims. `make test` checks the same.
bench-small: $(READY) $(DEBIAN)
	@$(BIN)/python -m benchmarks.evidence.small

# An hour on two cores at most; the same command goes on.
campaign: $(READY)
	@$(BIN)/python -m benchmarks.campaign

# The better part of an hour on one core; the same command goes on. Nothing else needs cosmic-ray.
mutants: $(READY)
	@$(BIN)/python -m pip install --quiet -c constraints.txt --group mutants
	@$(BIN)/python -m benchmarks.mutants

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev --group docs --editable ".[heic,int8,onnx,openvino,quantized,ray,web]"
	@# CLIP's own vocabulary is a file in it; nothing of it is imported, so nothing of it is needed.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps open-clip-torch
	@touch $@

# What only benchmarks.unseen and benchmarks.evidence need; npm, which the first also needs, is not
# installed here.
$(BENCH): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	@# POUNDERS without JAX and a debugger, which its package asks for and does not import.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps ibcdfo
	@touch $@

# The font and the names that the sticker world is drawn from: unpacked here, not installed. Where
# there is no apt-get, tests that draw new stickers are left out; nothing else needs them.
$(DEBIAN):
	@mkdir -p build/debian
	@if [ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] && \
	    [ -e /usr/share/unicode/cldr/common/annotations/en.xml ]; then :; \
	elif command -v apt-get >/dev/null; then cd build/debian && \
	    { apt-get download $(PACKAGES) 2>/dev/null || \
	      { apt-get update -qq && apt-get download $(PACKAGES); }; } && \
	    for package in *.deb; do dpkg -x $$package .; done; \
	else echo "No Debian packages here: tests that draw stickers are left out."; fi
	@touch $@

# Chromium with what it needs and this machine lacks, unpacked as above, and axe-core's rules of
# accessibility. Where there is no apt-get or no npm, tests of the page in a browser are left out.
$(BROWSER):
	@mkdir -p build/browser build/axe
	@get() { apt-get download $$(apt-get install --simulate --no-install-recommends chromium | \
	      sed -n 's/^Inst \([^ ]*\).*/\1/p') && ls chromium_*.deb >/dev/null; }; \
	if command -v chromium >/dev/null; then :; \
	elif command -v apt-get >/dev/null; then cd build/browser && \
	    { get >/dev/null 2>&1 || { apt-get update -qq && get >/dev/null; }; } && \
	    for package in *.deb; do dpkg -x $$package .; done; \
	else echo "No Debian packages here: tests in a browser are left out."; fi
	@if command -v npm >/dev/null; then cd build/axe && \
	    npm pack --silent $(AXE) >/dev/null && tar -xzf *.tgz; \
	else echo "No npm here: tests in a browser are left out."; fi
	@touch $@
