"""The containers' seccomp profile: an allow-list, generated from the tables below.

Rules that the witnesses rest on: io_uring answers ENOSYS (its operations pass no system call that
could be watched; every runtime then falls back), only the native architecture is admitted (32-bit
calls are killed), no new namespaces, no tracing or reading of other processes, sockets only of the
families that the network witness decodes. Whatever is not named fails with EPERM.
Format: the engine's seccomp profile; semantics: seccomp(2), libseccomp's seccomp_rule_add(3).
"""

import errno
import functools
import hashlib
import json
import platform
from typing import Any

_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

ALLOWED = {
    "files": """
        access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat
        faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat
        fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate
        futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1
        inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek
        lsetxattr lstat memfd_create mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
        openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
        readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr
        splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask
        unlink unlinkat utime utimensat utimes vmsplice write writev
    """,
    "waiting": """
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_setup
        io_submit poll ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime
        timerfd_settime
    """,
    "memory": """
        brk cachestat madvise membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msgctl
        msgget msgrcv msgsnd msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
        remap_file_pages semctl semget semop semtimedop shmat shmctl shmdt shmget
    """,
    "processes": """
        arch_prctl execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv
        futex_wake get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority
        getrandom getrlimit getrusage getsid gettid ioprio_get ioprio_set kill pause pidfd_open
        pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending
        rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
        sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
        sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield set_robust_list set_thread_area set_tid_address setpgid
        setpriority setrlimit setsid sigaltstack tgkill time times tkill vfork wait4 waitid
    """,
    # harmless without capabilities; programs call them and expect an answer
    "identity": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid landlock_add_rule
        landlock_create_ruleset landlock_restrict_self seccomp setfsgid setfsuid setgid setgroups
        setregid setresgid setresuid setreuid setuid sysinfo uname
    """,
    "time": """
        alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer
        timer_create timer_delete timer_getoverrun timer_gettime timer_settime
    """,
    "network": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
        recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair
    """,
}

# clone(2): any of NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
_NEW_NAMESPACES = 0x7E020000
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
# personality(2): PER_LINUX, PER_LINUX32, UNAME26 with either, and the query. No ADDR_NO_RANDOMIZE.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
# fcntl(2): each command but F_SETLEASE (1024) and F_SETDELEG (1040): who holds a lease stops others in the
# middle of an open or truncate as long as he likes, and swaps names and descriptors meanwhile
_COMMANDS = (*range(12), *range(15, 18), *range(36, 39), *range(1025, 1040))
# these must look as if the kernel had none of them: callers then take the older way
_UNKNOWN = ("clone3", "io_uring_enter", "io_uring_register", "io_uring_setup")


def profile(machine: str = "") -> dict[str, Any]:
    """The profile for `machine` (default: this one); ValueError for an architecture we do not know."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise ValueError(f"no seccomp profile for {machine}")
    rules: list[dict[str, Any]] = [
        {"names": sorted(names.split()), "action": "SCMP_ACT_ALLOW"} for _, names in sorted(ALLOWED.items())
    ]
    rules.append(_allow("clone", _masked(0, _NEW_NAMESPACES, 0)))
    rules += [_allow("fcntl", _masked(1, 0xFFFFFFFF, command)) for command in _COMMANDS]
    rules += [_allow("personality", _equal(0, value)) for value in _PERSONALITIES]
    # an exact match on all 64 bits: the kernel looks at 32, so "not AF_VSOCK" could be walked around
    rules += [_allow("socket", _equal(0, family)) for family in (_AF_UNIX, _AF_INET, _AF_INET6)]
    rules.append(_allow("socket", _equal(0, _AF_NETLINK), _equal(2, _NETLINK_ROUTE)))
    rules.append({"names": list(_UNKNOWN), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [_ARCHITECTURES[machine]],
        "syscalls": rules,
    }


@functools.cache
def profile_json(machine: str = "") -> str:
    """The profile as one line of JSON, the same bytes each time: what the engine is given."""
    return json.dumps(profile(machine), separators=(",", ":"), sort_keys=True)


def sha256(machine: str = "") -> str:
    """Digest of `profile_json`, for the archive."""
    return hashlib.sha256(profile_json(machine).encode("ascii")).hexdigest()


def _allow(name: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
