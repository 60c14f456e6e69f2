/* Tries to touch process 1 of its pid namespace in every way that there is; prints NAME ERRNO, 0 for done. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static void say(const char *name, long result) { printf("%s %d\n", name, result < 0 ? errno : 0); }

static void connect_to(const char *name, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  say(name, connect(fd, (struct sockaddr *)&address, sizeof address));
  close(fd);
}

static void bind_at(const char *name, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  say(name, bind(fd, (struct sockaddr *)&address, sizeof address));
  close(fd);
}

int main(void) {
  char byte = 0, here = 0;
  struct iovec local = {&here, 1}, remote = {&byte, 1};
  struct rlimit none = {0, 0};
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  say("mem_read", open("/proc/1/mem", O_RDONLY));
  say("mem_write", open("/proc/1/mem", O_RDWR));
  say("maps", open("/proc/1/maps", O_RDONLY));
  say("environ", open("/proc/1/environ", O_RDONLY));
  say("fd", open("/proc/1/fd", O_RDONLY | O_DIRECTORY));
  say("fd_3", open("/proc/1/fd/3", O_RDWR));
  say("cwd", open("/proc/1/cwd", O_RDONLY));
  say("root", open("/proc/1/root", O_RDONLY));
  say("ptrace_attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
  say("ptrace_seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
  say("process_vm_readv", process_vm_readv(1, &local, 1, &remote, 1, 0));
  say("process_vm_writev", process_vm_writev(1, &local, 1, &remote, 1, 0));
  int pidfd = syscall(SYS_pidfd_open, 1, 0);
  say("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 3, 0));
  say("pidfd_send_signal", syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0));
  say("kill", kill(1, SIGKILL));
  say("prlimit", prlimit(1, RLIMIT_NOFILE, &none, 0));
  say("setpriority", setpriority(PRIO_PROCESS, 1, 19));
  say("sched_setaffinity", sched_setaffinity(1, sizeof one, &one));
  say("setuid_proxy", setuid(65533));
  say("setuid_root", setuid(0));
  say("setgid_root", setgid(0));
  connect_to("decisions", "/run/assay/decisions/decisions.sock");
  connect_to("mcp", "/run/assay/mcp/mcp.sock");
  bind_at("mcp_taken", "/run/assay/mcp/mcp.sock");
  bind_at("mcp_other", "/run/assay/mcp/other.sock");
  bind_at("decisions_other", "/run/assay/decisions/other.sock");
  bind_at("control_other", "/run/assay/other.sock");
  say("decisions_listed", open("/run/assay/decisions", O_RDONLY | O_DIRECTORY));
  say("policy", open("/run/assay/policy/policy.toml", O_RDONLY));
  say("mcp_removed", unlink("/run/assay/mcp/mcp.sock"));
  say("folder_moved", rename("/run/assay/decisions", "/run/assay/old"));
  return 0;
}
