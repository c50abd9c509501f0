#!/bin/sh
# The engine under sanitizers (docs/format.md, "Safety"); any report ends the run with an error.
#   1. AddressSanitizer and UndefinedBehaviorSanitizer: the runtime's tests, on a copy of the package, and
#      tests/kernels/c_test.c on packed files, with a look for leaks
#   2. ThreadSanitizer: tests/kernels/threads_test.cc and c_test.c; Python itself is not written for it
#   3. with "fuzz" in their place: the engine takes the files that tests/fuzz has found, and changed ones go for so many
#      seconds (10) into the C++ readers of JSON and safetensors, led by coverage where there is a Clang with libFuzzer
# usage: tests/sanitize.sh <python> [fuzz [seconds]]. The Python's folder has nanobind, CMake and Ninja. Needs GCC.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$1
PATH=$(dirname "$PYTHON"):$PATH
BUILD=$PWD/build/sanitize

configure() {  # configure <folder> <sanitizer> [option...]
  folder=$BUILD/$1 sanitizer=$2
  shift 2
  cmake -S . -B "$folder" -G Ninja -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ \
    -DONEBIT_SANITIZE="$sanitizer" "$@" >"$folder.log"
}

fuzz_readers() {  # fuzz_readers <seconds>
  seeds=$PWD/tests/fuzz/corpus found=$PWD/build/fuzz  # as fuzz_format.py has them
  mkdir -p "$found/json"
  if libfuzzer; then
    configure libfuzzer address -DCMAKE_CXX_COMPILER=clang++ -DONEBIT_LIBFUZZER=ON -DONEBIT_PYTHON=OFF
    ninja -C "$BUILD/libfuzzer" --quiet json_fuzz
    "$BUILD/libfuzzer/json_fuzz" -max_total_time="$1" -verbosity=0 -print_final_stats=1 -timeout=10 \
      -artifact_prefix="$found/json-" "$found/json" "$seeds"
  else
    ninja -C "$BUILD/address" --quiet json_fuzz
    ASAN_OPTIONS=abort_on_error=1 UBSAN_OPTIONS=abort_on_error=1 \
      "$BUILD/address/json_fuzz" "$1" 1 "$found/finding-json" "$seeds"/*
  fi
}

libfuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, decltype(sizeof 0)) { return 0; }' |
    clang++ -fsanitize=fuzzer,address -x c++ - -o "$BUILD/libfuzzer.probe" 2>/dev/null
}

mkdir -p "$BUILD"
PACKAGE=$BUILD/package
rm -rf "$PACKAGE"
mkdir -p "$PACKAGE"
cp -R src/onebit "$PACKAGE/"
rm -f "$PACKAGE"/onebit/runtime/_engine*.so
# An editable installation finds its own engine before those of PYTHONPATH.
echo 'import sys; sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]' \
  >"$PACKAGE/sitecustomize.py"
configure address address -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PACKAGE/onebit/runtime" -DONEBIT_C_LIBRARY=ON
ninja -C "$BUILD/address" --quiet _engine
# libstdc++ comes second so that the sanitizer finds the function that throws; Python leaks on purpose.
SANITIZED="LD_PRELOAD=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so.6)
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024
  UBSAN_OPTIONS=print_stacktrace=1
  PYTHONPATH=$PACKAGE PYTHONDONTWRITEBYTECODE=1"
if [ "${2-}" = fuzz ]; then
  env $SANITIZED "$PYTHON" tests/fuzz/fuzz_format.py --replay
  fuzz_readers "${3:-10}"
  exit
fi
env $SANITIZED "$PYTHON" -c "from onebit.runtime import _engine; assert _engine.__file__.startswith('$PACKAGE'), _engine"
for tests in engine large_maps sequences moves hostile hostile_several hostile_moves hostile_texts model fuzz; do
  env $SANITIZED "$PYTHON" -m pytest -q -p no:cacheprovider "tests/runtime/test_runtime_$tests.py"
done

ninja -C "$BUILD/address" --quiet c_test
ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:max_allocation_size_mb=1024 \
  "$BUILD/address/csrc/bindings/c/c_test" tests/old/*.safetensors

configure thread thread -DONEBIT_PYTHON=OFF -DONEBIT_C_LIBRARY=ON
ninja -C "$BUILD/thread" --quiet threads_test c_test
TSAN_OPTIONS=halt_on_error=1 "$BUILD/thread/threads_test"
TSAN_OPTIONS=halt_on_error=1 "$BUILD/thread/csrc/bindings/c/c_test" tests/old/*.safetensors
