/* What a container's program can try, with raw system calls: prints "<what> <result or -errno>". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void try(const char *what, long number, long a, long b, long c)
{
	long result = syscall(number, a, b, c, 0, 0);

	if (number == SYS_clone && result == 0)
		_exit(0);
	printf("%s %ld\n", what, result < 0 ? -(long)errno : result);
}

static void calls(void)
{
	char params[120] = {0};

	try("getpid", SYS_getpid, 0, 0, 0);
	try("getuid", SYS_getuid, 0, 0, 0);
	try("io_uring_setup", SYS_io_uring_setup, 4, (long)params, 0);
	try("io_uring_enter", SYS_io_uring_enter, 0, 0, 0);
	try("io_uring_register", SYS_io_uring_register, 0, 0, 0);
	try("clone3", SYS_clone3, 0, 0, 0);
	/* No SIGCHLD: below, the parent becomes its tracer, and a signal that comes late would stop us. */
	try("clone_newuser", SYS_clone, CLONE_NEWUSER, 0, 0);
	try("unshare_newuser", SYS_unshare, CLONE_NEWUSER, 0, 0);
	try("unshare_newnet", SYS_unshare, CLONE_NEWNET, 0, 0);
	try("setns", SYS_setns, 0, 0, 0);
	try("ptrace", SYS_ptrace, 0, 0, 0);
	try("process_vm_readv", SYS_process_vm_readv, 1, 0, 0);
	try("bpf", SYS_bpf, 0, 0, 0);
	try("perf_event_open", SYS_perf_event_open, 0, 0, 0);
	try("userfaultfd", SYS_userfaultfd, 0, 0, 0);
	try("keyctl", SYS_keyctl, 0, 0, 0);
	try("mount", SYS_mount, 0, 0, 0);
	try("fsopen", SYS_fsopen, 0, 0, 0);
	try("open_by_handle_at", SYS_open_by_handle_at, 0, 0, 0);
	try("fanotify_init", SYS_fanotify_init, 0, 0, 0);
	try("pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0);
	try("kexec_load", SYS_kexec_load, 0, 0, 0);
	try("chroot", SYS_chroot, (long)"/", 0, 0);
	try("personality_no_aslr", SYS_personality, 0x0040000, 0, 0);
	try("personality_query", SYS_personality, 0xffffffff, 0, 0);
	try("socket_unix", SYS_socket, AF_UNIX, SOCK_STREAM, 0);
	try("socket_inet", SYS_socket, AF_INET, SOCK_STREAM, 0);
	try("socket_route", SYS_socket, AF_NETLINK, SOCK_RAW, 0);
	try("socket_audit", SYS_socket, AF_NETLINK, SOCK_RAW, 9);
	try("socket_vsock", SYS_socket, 40, SOCK_STREAM, 0);
	try("socket_vsock_high_bits", SYS_socket, (1L << 32) | 40, SOCK_STREAM, 0);
	try("socket_alg", SYS_socket, 38, SOCK_SEQPACKET, 0);
	try("write_root", SYS_creat, (long)"/written", 0600, 0);
	try("write_tmp", SYS_creat, (long)"/tmp/written", 0600, 0);
}

static void packet(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	printf("sent %zd\n", sendto(s, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
}

int main(int count, char **argument)
{
	const char *what = count > 1 ? argument[1] : "";

	if (!strcmp(what, "calls"))
		calls();
	else if (!strcmp(what, "packet"))
		packet();
	else if (!strcmp(what, "int80")) {
		int result;

		__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid of i386 */
		printf("int80 %d\n", result);
	} else if (!strcmp(what, "x32"))
		try("x32", 0x40000000 | SYS_getpid, 0, 0, 0);
	else if (!strcmp(what, "sleep"))
		for (;;)
			pause();
	else if (!strcmp(what, "nap"))
		sleep(1);
	fflush(stdout);
	return count > 2 ? atoi(argument[2]) : 0;
}
