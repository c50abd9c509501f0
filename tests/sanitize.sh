#!/bin/sh
# The engine under sanitizers (docs/format.md, "Safety"); any report ends the run with an error.
#   1. AddressSanitizer and UndefinedBehaviorSanitizer: the runtime's tests, on a copy of the package
#   2. ThreadSanitizer: tests/kernels/threads_test.cc; Python itself is not written for it
# usage: tests/sanitize.sh <python> [fuzz]; with "fuzz" the engine only takes the files that tests/fuzz has found. The
# Python's folder has nanobind, CMake and Ninja. Needs GCC.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$1
PATH=$(dirname "$PYTHON"):$PATH
BUILD=$PWD/build/sanitize

configure() {  # configure <sanitizer> [option...]
  name=$1
  shift
  cmake -S . -B "$BUILD/$name" -G Ninja -DCMAKE_CXX_COMPILER=g++ -DONEBIT_SANITIZE="$name" "$@" >"$BUILD/$name.log"
}

mkdir -p "$BUILD"
PACKAGE=$BUILD/package
rm -rf "$PACKAGE"
mkdir -p "$PACKAGE"
cp -R src/onebit "$PACKAGE/"
rm -f "$PACKAGE"/onebit/runtime/_engine*.so
configure address -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PACKAGE/onebit/runtime"
ninja -C "$BUILD/address" --quiet _engine
# libstdc++ comes second so that the sanitizer finds the function that throws; Python leaks on purpose.
SANITIZED="LD_PRELOAD=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so.6)
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024
  UBSAN_OPTIONS=print_stacktrace=1
  PYTHONPATH=$PACKAGE PYTHONDONTWRITEBYTECODE=1"
if [ "${2-}" = fuzz ]; then
  exec env $SANITIZED "$PYTHON" tests/fuzz/fuzz_format.py --replay
fi
env $SANITIZED "$PYTHON" -c "from onebit.runtime import _engine; assert _engine.__file__.startswith('$PACKAGE'), _engine"
for tests in engine hostile model fuzz; do
  env $SANITIZED "$PYTHON" -m pytest -q -p no:cacheprovider "tests/runtime/test_runtime_$tests.py"
done

configure thread -DONEBIT_PYTHON=OFF
ninja -C "$BUILD/thread" --quiet threads_test
TSAN_OPTIONS=halt_on_error=1 "$BUILD/thread/threads_test"
