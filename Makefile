# Two commands do everything: `make demo` and `make test`.
#
#   make demo [OUT=folder] [STUDY=folder] [FHIR=bundle.json]
#   make test
#   make check            format, lint, types, house, tests
#   make validate         a thousand results before every validator
#   make soak             the listener killed while 10,000 instances come, workers and brokers over 1,000 studies,
#                         and how long the neighbours of a study take that kills its worker
#   make bench            receiving and the whole line, side by side with other tools
#   make bench-ledger     how long people wait before a ledger of a million studies
#   make bench-workers    1, 2 and 4 workers with a model that only sleeps
#   make bench-serve      start-up, memory, and the first result after a cold start
#   make bench-scale      the model of `bonetumor scale` beside a plugin at work
#   make bench-models     the detector beside ultralytics' own loop
#   make bench-ehr        gathering beside bare HTTP, tiles beside wsidicom alone
#
# TORCH_INDEX=<url> takes torch from another package index, e.g. PyTorch's own for CPU builds.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0 torchvision==0.28.0

.PHONY: demo test check fast validate soak bench bench-ledger bench-workers bench-scale bench-serve bench-models bench-ehr clean

demo: $(VENV)/.runtime
	$(BIN)/bonetumor demo --out "$(OUT)" $(if $(STUDY),--study "$(STUDY)") $(if $(FHIR),--fhir "$(FHIR)")

# One thread each: more of them than cores spin while they wait for one another.
test: $(VENV)/.develop tests/parts/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: test

fast: $(VENV)/.develop
	$(BIN)/pytest tests --ignore=tests/journey -x

validate: $(VENV)/.develop tests/parts/.ready
	RESULTS=1000 PIXELMED_EVERY=1 $(BIN)/pytest --timeout=3000 tests/dicom/test_validators.py

soak: $(VENV)/.develop tests/parts/.ready
	SOAK_INSTANCES=10000 SOAK_STUDIES=1000 SOAK_RESTARTS=20 SOAK_KILL_EVERY_S=2 SOAK_NEIGHBOURS=100 \
	  $(BIN)/pytest -s --timeout=3000 tests/journey/test_listener_killed.py \
	  tests/journey/test_workers_killed.py tests/journey/test_poison.py

bench: $(VENV)/.develop tests/parts/.ready
	$(BIN)/python tests/bench.py

bench-ledger: $(VENV)/.develop
	$(BIN)/python tests/bench_ledger.py

bench-workers: $(VENV)/.develop tests/parts/.ready
	$(BIN)/python tests/bench_workers.py

bench-serve: $(VENV)/.develop tests/parts/.ready
	$(BIN)/python tests/bench_serve.py

bench-scale: $(VENV)/.develop tests/parts/.ready
	$(BIN)/python tests/bench_scale.py

bench-models: $(VENV)/.develop
	$(BIN)/python tests/bench_models.py

bench-ehr: $(VENV)/.develop tests/parts/.ready
	$(BIN)/python tests/bench_ehr.py

$(VENV)/.runtime: deploy/locks/runtime.txt pyproject.toml
	@echo "Installing the locked dependencies: about two minutes and, with a CPU build of torch, 530 MB."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r deploy/locks/runtime.txt
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)")
	$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.develop: $(VENV)/.runtime deploy/locks/develop.txt
	$(PIP) --require-hashes --no-deps -r deploy/locks/develop.txt
	@touch $@

tests/parts/.ready: tests/parts/install.sh tests/parts/package.json
	bash tests/parts/install.sh
	@touch $@

clean:
	rm -rf $(VENV) out build tests/parts/node_modules tests/parts/.ready
