// A kernel module: turns on AMX's tile state in XCR0. Linux leaves it off in Bochs, whose Sapphire Rapids lacks XFD,
// the switch that Linux wants for it. Tiles are then not saved between threads: this is for one process with one
// thread.
#include <linux/module.h>

static int __init tiles_init(void) {
  u32 low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  asm volatile("xsetbv" : : "a"(low | 0x60000), "d"(high), "c"(0));
  return 0;
}
module_init(tiles_init);
MODULE_LICENSE("GPL");
