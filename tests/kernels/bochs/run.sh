#!/bin/sh
# The kernels for AVX-512 VPOPCNTDQ and for AMX on a processor that has neither: a Linux machine with nothing but
# kernel_test, emulated instruction by instruction by Bochs. Takes 10 to 20 minutes for each of the two processors.
# usage: tests/kernels/bochs/run.sh [amx | avx512vp]     (both without an argument)
# Needs root (device nodes), a 64-bit x86 machine and Bochs 3.0 of Debian 13: apt-get install bochs bochs-term bochsbios
# vgabios cmake g++ make cpio xorriso mtools grub-common grub-pc-bin linux-image-cloud-amd64 linux-headers-cloud-amd64
# Bochs 3.0 multiplies tiles as if all bytes were unsigned, which kernel_test allows for; in 3.1 this Linux does not boot.
set -eu
cd "$(dirname "$0")/../../.."
BUILD=$PWD/build/bochs
HERE=$PWD/tests/kernels/bochs

for tool in bochs cmake g++ cpio grub-mkrescue xorriso; do
  command -v $tool >/dev/null || { echo "$0: no $tool; its first lines name the packages" >&2; exit 1; }
done
KERNEL=$(ls /boot/vmlinuz-*cloud-amd64 | tail -1)
HEADERS=/usr/src/linux-headers-${KERNEL#/boot/vmlinuz-}

mkdir -p "$BUILD/module"
cmake -S . -B "$BUILD" -DONEBIT_PYTHON=OFF -DONEBIT_KERNEL_TESTS=ON -DCMAKE_EXE_LINKER_FLAGS=-static \
  -DCMAKE_CXX_FLAGS=-DONEBIT_BOCHS_3_0 >"$BUILD/cmake.log"
cmake --build "$BUILD" --target kernel_test >>"$BUILD/cmake.log"
cp "$HERE/tiles.c" "$BUILD/module/"
echo "obj-m := tiles.o" >"$BUILD/module/Makefile"
make -s -C "$HEADERS" M="$BUILD/module" modules
gcc -O1 -Wall -Werror -static -o "$BUILD/init" "$HERE/init.c"

emulate() {  # emulate LEVEL PROCESSOR OPTIONS: kernel_test on it must have found the level
  machine=$BUILD/$1
  rm -rf "$machine"
  mkdir -p "$machine/root/dev" "$machine/iso/boot/grub"
  cp "$BUILD/init" "$BUILD/tests/kernels/kernel_test" "$machine/root/"
  [ "$1" != amx ] || cp "$BUILD/module/tiles.ko" "$machine/root/"
  mknod "$machine/root/dev/console" c 5 1
  (cd "$machine/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$machine/iso/boot/initrd"
  cp "$KERNEL" "$machine/iso/boot/vmlinuz"
  cat >"$machine/iso/boot/grub/grub.cfg" <<EOF
set timeout=0
linux /boot/vmlinuz console=ttyS0 nokaslr mitigations=off nosmp tsc=unstable lpj=1000000 clocksource=jiffies $3
initrd /boot/initrd
boot
EOF
  grub-mkrescue -o "$machine/disk.iso" "$machine/iso" --install-modules="linux normal iso9660 biosdisk" \
    >"$machine/disk.log" 2>&1
  cat >"$machine/bochsrc" <<EOF
display_library: rfb, options="timeout=0"
cpu: model=$2, count=1, ips=200000000
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path=$machine/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$machine/console.txt
log: $machine/bochs.log
clock: sync=none
speaker: enabled=0
EOF
  bochs -q -f "$machine/bochsrc" </dev/null >"$machine/bochs.out" 2>&1 &
  emulator=$!
  trap 'kill $emulator 2>/dev/null' EXIT
  while kill -0 $emulator 2>/dev/null; do
    sleep 5
    if grep -qs -e "exit status" -e "Kernel panic" "$machine/console.txt"; then break; fi
  done
  kill $emulator 2>/dev/null || true
  trap - EXIT
  sed -n '/^this CPU/,$p' "$machine/console.txt" | tr -d '\r'
  grep -q "^this CPU: $1" "$machine/console.txt" && grep -q "^exit status 0" "$machine/console.txt" ||
    { echo "$0: the kernels of $1 failed on the emulated $2; see $machine/console.txt" >&2; exit 1; }
}

case "${1-all}" in
all | avx512vp | amx) ;;
*) echo "usage: $0 [amx | avx512vp]" >&2; exit 2 ;;
esac
[ "${1-all}" = amx ] || emulate avx512vp corei7_icelake_u ""
[ "${1-all}" = avx512vp ] || emulate amx sapphire_rapids "clearcpuid=amx_tile no5lvl"
