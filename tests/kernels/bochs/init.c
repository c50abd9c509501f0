// The first process of the emulated machine: runs /kernel_test, prints its exit status, turns the machine off. With
// /tiles.ko: turns on tiles, and has the process's request for them granted, which Linux would refuse.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST 0x1023  // ARCH_REQ_XCOMP_PERM

static void enable_tiles(int module) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQUEST, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),  // done, returns 0
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  if (syscall(SYS_finit_module, module, "", 0)) perror("tiles.ko");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) perror("seccomp");
}

int main(void) {
  int module = open("/tiles.ko", O_RDONLY), status = -1;
  if (module >= 0) enable_tiles(module);
  pid_t test = fork();
  if (test == 0) {
    execl("/kernel_test", "/kernel_test", (char*)0);
    perror("/kernel_test");
    _exit(127);
  }
  waitpid(test, &status, 0);
  printf("exit status %d\n", status);
  fflush(stdout);
  sleep(1);
  reboot(RB_POWER_OFF);
  return 1;
}
