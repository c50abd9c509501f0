# The two commands that do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: demo test test-gpu zoo wheel c-library test-arm test-wasm web test-bochs sanitize fuzz lint format clean

demo: $(DONE)  ## train, pack and run RBNN, AdaBin, ReBNN and their parent on embedded digits; prints one table
	rm -rf runs/demo
	$(BIN)/python -m onebit reproduce digits --runs runs/demo --out runs/demo

test: $(DONE)  ## all tests, warnings as errors, in one process a processor
	$(BIN)/python -m pytest -q --numprocesses=auto --dist=loadscope

test-gpu: $(DONE)  ## training on a GPU beside the same on the CPU, CUDA graphs, steps that wait for nothing
	$(BIN)/python -m pytest -q -m gpu tests/test_gpu.py || [ $$? -eq 5 ]  # 5: none ran, as there is no GPU

c-library:  ## the engine as a library for C, static and shared (docs/c.md); needs CMake and a compiler, no Python
	cmake -S . -B build/c -DONEBIT_PYTHON=OFF -DONEBIT_C_LIBRARY=ON
	cmake --build build/c --target onebit_c
	@echo "build/c/lib holds the libraries, csrc/bindings/c/onebit.h is their header;"
	@echo "cmake --install build/c --prefix /usr/local installs both, for pkg-config and CMake's find_package"

DIST ?= dist
wheel: $(DONE)  ## in dist: the sources, and a wheel for this system, built from them; its name says which systems it fits
	$(BIN)/python -m build --outdir $(DIST)
ifeq ($(shell uname),Linux)
	PATH="$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --wheel-dir $(DIST) $(DIST)/onebit-*-linux_*.whl
	rm $(DIST)/onebit-*-linux_*.whl
endif

test-arm:  ## the kernels for 64-bit ARM, cross-compiled and run by an emulator
	@for tool in cmake aarch64-linux-gnu-g++ qemu-aarch64; do \
	  command -v $$tool >/dev/null && continue; \
	  echo "make test-arm: no $$tool; on Debian: apt-get install cmake make g++-aarch64-linux-gnu qemu-user" >&2; exit 1; \
	done
	cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake \
	  -DONEBIT_PYTHON=OFF -DONEBIT_KERNEL_TESTS=ON -DONEBIT_DEVELOPER=ON
	cmake --build build/aarch64 --target kernel_test
	cd build/aarch64 && ctest --verbose --tests-regex '^kernels$$'

WASM_TOOLS = for tool in cmake em++ node; do \
	  command -v $$tool >/dev/null && continue; \
	  echo "make $@: no $$tool; on Debian: apt-get install cmake make emscripten nodejs" >&2; exit 1; \
	done
WASM = NODE_PATH=/usr/share/nodejs cmake -S . -B build/wasm -DCMAKE_TOOLCHAIN_FILE=cmake/wasm.cmake \
	-DONEBIT_PYTHON=OFF -DONEBIT_KERNEL_TESTS=ON -DONEBIT_DEVELOPER=ON
test-wasm:  ## the kernels for WebAssembly, compiled by Emscripten and run by node
	@$(WASM_TOOLS)
	$(WASM)
	NODE_PATH=/usr/share/nodejs cmake --build build/wasm --target kernel_test
	cd build/wasm && ctest --verbose --tests-regex '^kernels$$'

ROOT ?= data
zoo: $(DONE)  ## CHECKPOINTS="runs/a/last.ckpt ..." as files that come with onebit (docs/zoo.md); ROOT holds the data sets
	$(BIN)/python -m onebit.reproduction.zoo --root $(ROOT) $(CHECKPOINTS)

web:  ## the page that runs packed files in a browser: build/web/index.html, which needs nothing else
	@$(WASM_TOOLS)
	$(WASM)
	NODE_PATH=/usr/share/nodejs cmake --build build/wasm --target web
	cmake -E make_directory build/web
	cmake -E copy build/wasm/web/index.html build/wasm/web/onebit.js build/web

test-bochs:  ## the kernels for AVX-512 VPOPCNTDQ and AMX in an emulator; needs root and Debian 13
	tests/kernels/bochs/run.sh

sanitize: $(DONE)  ## the engine under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; needs GCC
	$(BIN)/python -m pip install --quiet nanobind cmake ninja
	tests/sanitize.sh $(BIN)/python

SECONDS ?= 600
FILES ?= 100000
fuzz: $(DONE)  ## hostile files for the readers, FILES=100000 and SECONDS=600 of them; what fails is left in build/fuzz
	$(BIN)/python -m pip install --quiet atheris nanobind cmake ninja
	$(BIN)/python tests/fuzz/verdicts.py --files $(FILES)
	$(BIN)/python tests/fuzz/fuzz_format.py --seconds $(SECONDS)
	tests/sanitize.sh $(BIN)/python fuzz $$(($(SECONDS) / 10))

lint: $(DONE)  ## formatting, lint and types, as CI checks them
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*.cc' 'csrc/*.h' 'tests/kernels/*.[ch]' 'tests/kernels/*.cc' 'tests/fuzz/*.cc' 'examples/*.c')

format: $(DONE)  ## rewrite the sources in the house format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.cc' 'csrc/*.h' 'tests/kernels/*.[ch]' 'tests/kernels/*.cc' 'tests/fuzz/*.cc' 'examples/*.c')

$(DONE): pyproject.toml CMakeLists.txt $(shell git ls-files csrc 2>/dev/null || find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist
