"""Names of x86-64 system calls, open flags and errors, as include/uapi of the kernel has them.

Own tables, because the standard library's follow the machine that reads the archive.
"""

AT_REMOVEDIR = 0x200  # unlinkat
RENAME_EXCHANGE = 2  # renameat2
ENOENT, EFAULT = 2, 14
CREAT = 85
UNLINKAT = 263
CREAT_FLAGS = 0o1101  # creat(2) is open with O_CREAT | O_WRONLY | O_TRUNC

# arch/x86/entry/syscalls/syscall_64.tbl; variants of one operation share its name.
OPERATIONS: dict[int, str] = {
    2: "open", 85: "open", 257: "open", 437: "open", 304: "open", 428: "open",
    59: "exec", 322: "exec",
    76: "truncate", 77: "truncate",
    80: "chdir", 81: "chdir",
    82: "rename", 264: "rename", 316: "rename",
    83: "mkdir", 258: "mkdir",
    84: "rmdir",
    86: "link", 265: "link",
    87: "unlink", 263: "unlink",
    88: "symlink", 266: "symlink",
    90: "chmod", 91: "chmod", 268: "chmod", 452: "chmod",
    92: "chown", 93: "chown", 94: "chown", 260: "chown",
    132: "utimens", 235: "utimens", 261: "utimens", 280: "utimens",
    133: "mknod", 259: "mknod",
    161: "chroot",
    188: "setxattr", 189: "setxattr", 190: "setxattr", 463: "setxattr",
    197: "removexattr", 198: "removexattr", 199: "removexattr", 466: "removexattr",
    303: "name_to_handle",
    319: "memfd_create",
    41: "socket", 42: "connect", 49: "bind", 44: "sendto", 46: "sendmsg", 307: "sendmsg",
    425: "io_uring_setup", 426: "io_uring_enter", 427: "io_uring_register",
}  # fmt: skip

OPEN_TREE = 428
# Calls that may take an empty name, or none, and then mean the descriptor; by the part that may be empty.
MAY_BE_EMPTY = {260: 0, 261: 0, 265: 0, 280: 0, 303: 0, 322: 0, 428: 0, 452: 0, 463: 0, 466: 0}
TWO_NAMES = frozenset({82, 264, 316, 86, 265, 88, 266})
MODE_ARGUMENT = frozenset({"mkdir", "mknod", "chmod"})  # operations whose first argument is a mode

O_ACCMODE = 0o3
O_CREAT, O_EXCL, O_TRUNC, O_APPEND = 0o100, 0o200, 0o1000, 0o2000
O_DIRECTORY, O_NOFOLLOW, O_PATH, O_TMPFILE = 0o200000, 0o400000, 0o10000000, 0o20000000

ACCESS = ("read", "write", "read_write", "unknown")
# Flags that say what is done to the file; those about the descriptor alone are left out.
FLAG_NAMES: tuple[tuple[int, str], ...] = (
    (O_CREAT, "create"),
    (O_TRUNC, "truncate"),
    (O_APPEND, "append"),
    (O_EXCL, "exclusive"),
    (O_DIRECTORY, "directory"),
    (O_NOFOLLOW, "nofollow"),
    (O_TMPFILE, "tmpfile"),
)

# include/linux/errno.h: the kernel repeats the call, or turns this into EINTR.
RESTARTS = frozenset({512, 513, 514, 516})

_ERRORS_FROM_1 = """
EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK
EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM
ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT
- EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP
EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ
ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT
ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH
ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT
ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM
EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED
EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
"""
_ERROR_NAMES = {number: name for number, name in enumerate(_ERRORS_FROM_1.split(), start=1) if name != "-"}


def outcome_of(result: int) -> str:
    """The word "ok" or the name of the error; a call that was interrupted for good says EINTR."""
    if result >= 0:
        return "ok"
    if -result in RESTARTS:
        return "EINTR"
    return _ERROR_NAMES.get(-result, f"errno_{-result}")


def is_outcome(text: str) -> bool:
    """Could `outcome_of` say this?"""
    if text == "ok" or text in _ERROR_NAMES.values():
        return True
    number = text.removeprefix("errno_")
    return number != text and number.isascii() and number.isdigit() and outcome_of(-int(number[:9])) == text


def operation_name(syscall: int, argument: int) -> str:
    """The operation of a syscall; `argument` is the record's first one (unlinkat's flags)."""
    if syscall == UNLINKAT and argument & AT_REMOVEDIR:
        return "rmdir"
    return OPERATIONS.get(syscall, f"syscall_{syscall}")
