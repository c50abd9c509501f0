# Cross-compiles for 64-bit ARM Linux and runs what is built with qemu. Debian: g++-aarch64-linux-gnu, qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)  # so that qemu need not find the libraries
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
