"""The table behind the seccomp profile; what the kernel makes of it is tested in containers."""

import json

import pytest

from harness.engine import seccomp

# each of these would open a way around the seal or the witnesses
NEVER = """
    acct add_key adjtimex bpf chroot clock_settime create_module delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register
    io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mount
    mount_setattr move_mount open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
    process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot request_key setns
    settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""


def _allowed() -> list[str]:
    rules = seccomp.profile("x86_64")["syscalls"]
    return [name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]]


def test_nothing_dangerous_is_allowed() -> None:
    assert set(_allowed()) & set(NEVER.split()) == set()


def test_each_call_is_allowed_in_one_place() -> None:
    unconditional = [name for names in seccomp.ALLOWED.values() for name in names.split()]
    assert len(unconditional) == len(set(unconditional))
    assert set(unconditional) & {"clone", "clone3", "personality", "socket"} == set()


def test_everything_else_is_refused() -> None:
    profile = seccomp.profile("x86_64")
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]
    refused = [rule for rule in profile["syscalls"] if rule["action"] != "SCMP_ACT_ALLOW"]
    names = ["clone3", "io_uring_enter", "io_uring_register", "io_uring_setup"]
    assert refused == [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]


def test_deterministic() -> None:
    text = seccomp.profile_json("x86_64")
    seccomp.profile_json.cache_clear()
    assert seccomp.profile_json("x86_64") == text
    assert json.loads(text) == seccomp.profile("x86_64")
    assert seccomp.sha256("x86_64") != seccomp.sha256("aarch64")


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.profile("riscv64")
