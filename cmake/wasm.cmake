# Compiles for WebAssembly with Emscripten and runs what is built with node. Debian: emscripten, nodejs.
execute_process(COMMAND em-config EMSCRIPTEN_ROOT OUTPUT_VARIABLE emscripten OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
include(${emscripten}/cmake/Modules/Platform/Emscripten.cmake)
# Exceptions of WebAssembly itself, which engines have had for longer than they have had SIMD in common.
set(CMAKE_CXX_FLAGS_INIT -fwasm-exceptions)
