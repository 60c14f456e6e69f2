"""Which system calls are watched and where their arguments are: x86-64 (arch/x86/entry/syscalls).

The table is loaded into the `rules` map of bpf/capture.c. Argument positions count from 1; 0 is
"none". Calls on descriptors that need write access from open (write, ftruncate, mmap) are not
watched: the open's access mode already says it.
"""

from attrs import astuple, evolve, frozen

OPEN, EXEC, PATH, SOCK, URING, COMPAT = 1, 2, 5, 6, 9, 10  # KIND_* of bpf/record.h
FAILED_ONLY, BY_CWD, BY_PEER, BY_SELF = 1, 2, 3, 4  # `when` of struct syscall_rule


@frozen
class SyscallRule:
    """struct syscall_rule of bpf/record.h, field for field."""

    kind: int
    name: int = 0
    dirfd: int = 0
    name2: int = 0
    dirfd2: int = 0
    object: int = 0
    a0: int = 0
    a1: int = 0
    how: int = 0
    address: int = 0
    address_len: int = 0
    message: int = 0
    when: int = 0
    a2: int = 0
    constant: int = 0
    enter: int = 0

    def packed(self) -> bytes:
        """The 16 bytes of the map value."""
        return bytes(astuple(self))


# Calls whose names are looked at when they begin, too: number -> its name, and that of its event in tracefs.
# Opens are not among them but for openat2, whose terms lie in memory: a success is told by the opened file.
ENTERED: dict[int, str] = {
    437: "openat2", 76: "truncate", 80: "chdir", 82: "rename", 264: "renameat", 316: "renameat2",
    83: "mkdir", 258: "mkdirat", 84: "rmdir", 86: "link", 265: "linkat", 87: "unlink", 263: "unlinkat",
    88: "symlink", 266: "symlinkat", 90: "chmod", 268: "fchmodat", 452: "fchmodat2", 92: "chown",
    94: "lchown", 260: "fchownat", 132: "utime", 235: "utimes", 261: "futimesat", 280: "utimensat",
    133: "mknod", 259: "mknodat", 161: "chroot", 188: "setxattr", 189: "lsetxattr", 197: "removexattr",
    198: "lremovexattr", 303: "name_to_handle_at", 319: "memfd_create",
}  # fmt: skip

_RULES: dict[int, SyscallRule] = {
    2: SyscallRule(OPEN, name=1, a0=2, a1=3),  # open
    85: SyscallRule(OPEN, name=1, a1=2, constant=1),  # creat
    257: SyscallRule(OPEN, name=2, dirfd=1, a0=3, a1=4),  # openat
    437: SyscallRule(OPEN, name=2, dirfd=1, how=3),  # openat2
    304: SyscallRule(OPEN, dirfd=1, a0=3),  # open_by_handle_at
    428: SyscallRule(OPEN, name=2, dirfd=1),  # open_tree: a descriptor of the file itself
    59: SyscallRule(EXEC, name=1, when=FAILED_ONLY),  # execve
    322: SyscallRule(EXEC, name=2, dirfd=1, a0=5, when=FAILED_ONLY),  # execveat
    76: SyscallRule(PATH, name=1, a0=2),  # truncate
    80: SyscallRule(PATH, name=1, when=BY_CWD),  # chdir
    81: SyscallRule(PATH, object=1),  # fchdir
    82: SyscallRule(PATH, name=1, name2=2),  # rename
    264: SyscallRule(PATH, name=2, dirfd=1, name2=4, dirfd2=3),  # renameat
    316: SyscallRule(PATH, name=2, dirfd=1, name2=4, dirfd2=3, a0=5),  # renameat2
    83: SyscallRule(PATH, name=1, a0=2),  # mkdir
    258: SyscallRule(PATH, name=2, dirfd=1, a0=3),  # mkdirat
    84: SyscallRule(PATH, name=1),  # rmdir
    86: SyscallRule(PATH, name=1, name2=2),  # link
    265: SyscallRule(PATH, name=2, dirfd=1, name2=4, dirfd2=3, a0=5),  # linkat
    87: SyscallRule(PATH, name=1),  # unlink
    263: SyscallRule(PATH, name=2, dirfd=1, a0=3),  # unlinkat
    88: SyscallRule(PATH, name=2, name2=1),  # symlink(target, linkpath): the link first
    266: SyscallRule(PATH, name=3, dirfd=2, name2=1),  # symlinkat(target, newdirfd, linkpath)
    90: SyscallRule(PATH, name=1, a0=2),  # chmod
    91: SyscallRule(PATH, object=1, a0=2),  # fchmod
    268: SyscallRule(PATH, name=2, dirfd=1, a0=3),  # fchmodat
    452: SyscallRule(PATH, name=2, dirfd=1, a0=3, a1=4),  # fchmodat2
    92: SyscallRule(PATH, name=1, a0=2, a1=3),  # chown
    93: SyscallRule(PATH, object=1, a0=2, a1=3),  # fchown
    94: SyscallRule(PATH, name=1, a0=2, a1=3),  # lchown
    260: SyscallRule(PATH, name=2, dirfd=1, a0=3, a1=4),  # fchownat
    132: SyscallRule(PATH, name=1),  # utime
    235: SyscallRule(PATH, name=1),  # utimes
    261: SyscallRule(PATH, name=2, dirfd=1),  # futimesat
    280: SyscallRule(PATH, name=2, dirfd=1, a0=4),  # utimensat
    133: SyscallRule(PATH, name=1, a0=2),  # mknod
    259: SyscallRule(PATH, name=2, dirfd=1, a0=3),  # mknodat
    161: SyscallRule(PATH, name=1),  # chroot
    188: SyscallRule(PATH, name=1),  # setxattr
    189: SyscallRule(PATH, name=1),  # lsetxattr
    190: SyscallRule(PATH, object=1),  # fsetxattr
    197: SyscallRule(PATH, name=1),  # removexattr
    198: SyscallRule(PATH, name=1),  # lremovexattr
    199: SyscallRule(PATH, object=1),  # fremovexattr
    303: SyscallRule(PATH, name=2, dirfd=1),  # name_to_handle_at
    319: SyscallRule(PATH, name=1, a0=2),  # memfd_create: the name is a label, not a path
    41: SyscallRule(SOCK, a0=1, a1=2, a2=3),  # socket
    42: SyscallRule(SOCK, a0=1, address=2, address_len=3, when=BY_PEER),  # connect
    49: SyscallRule(SOCK, a0=1, address=2, address_len=3, when=BY_SELF),  # bind
    44: SyscallRule(SOCK, a0=1, address=5, address_len=6),  # sendto
    46: SyscallRule(SOCK, a0=1, message=2),  # sendmsg
    307: SyscallRule(SOCK, a0=1, message=2),  # sendmmsg: its first message
    425: SyscallRule(URING),  # io_uring_setup
    426: SyscallRule(URING),  # io_uring_enter
    427: SyscallRule(URING),  # io_uring_register
    512: SyscallRule(COMPAT),  # FOREIGN_RULE of bpf/record.h: any call of the 32-bit or x32 table
}
X86_64 = {number: evolve(rule, enter=int(number in ENTERED)) for number, rule in _RULES.items()}
