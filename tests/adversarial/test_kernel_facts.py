"""Agents whose memory says something else than what they do: what is told comes from the kernel's objects."""

import pytest

from tests.adversarial.test_hiding import Watch, watch

__all__ = ["watch"]
pytestmark = pytest.mark.linux

LIBC = """
import ctypes, mmap, os, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
"""
VICTIM = LIBC + "open('/workspace/victim', 'wb').write(b'v' * 4096)\n"


def test_an_open_whose_terms_are_gone_when_it_returns_is_a_write(watch: Watch) -> None:
    """The file that is truncated holds the page with struct open_how: after the call it cannot be read."""
    archive = watch(
        VICTIM
        + """
fd = os.open("/workspace/victim", os.O_RDONLY)
page = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
page[1024:1048] = struct.pack("QQQ", os.O_RDWR | os.O_TRUNC, 0, 0)
at = ctypes.addressof(ctypes.c_char.from_buffer(page)) + 1024
held = libc.syscall(437, -100, b"/workspace/victim", ctypes.c_void_p(at), 24)
assert os.write(held, b"behind your back") == 16 and os.stat("/workspace/victim").st_size == 16
os._exit(0)
""",
        ends=3,
        unclean=("changed", "unreadable"),
    )
    [line] = [line for line in archive.operations("open", "/workspace/victim") if line["access"] != "read"]
    assert line["access"] == "read_write"


@pytest.mark.breaks("unclean:changed")
def test_terms_of_an_open_that_are_swapped_under_way_do_not_hide_the_write(watch: Watch) -> None:
    """A FIFO makes the open wait; meanwhile its struct open_how says "read only"."""
    archive = watch(
        LIBC
        + """
os.mkfifo("/workspace/f")
how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_WRONLY, 0, 0), 24)
def swap():
    time.sleep(0.5)
    how[:8] = struct.pack("Q", os.O_RDONLY)
    os.open("/workspace/f", os.O_RDONLY)
other = threading.Thread(target=swap)
other.start()
assert libc.syscall(437, -100, b"/workspace/f", how, 24) >= 0
other.join()
""",
        ends=3,
        unclean=("changed",),
    )
    assert "write" in {line["access"] for line in archive.operations("open", "/workspace/f")}


def test_an_honest_openat2_is_clean(watch: Watch) -> None:
    archive = watch(
        LIBC
        + """
for flags, mode in ((os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640), (os.O_RDONLY, 0),
                    (os.O_WRONLY | os.O_TRUNC | os.O_APPEND, 0), (os.O_PATH | os.O_NOFOLLOW, 0),
                    (os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0), (os.O_RDWR | os.O_SYNC, 0),
                    (os.O_WRONLY | 0o4000000, 0)):
    how = struct.pack("QQQ", flags, mode, 0)
    assert libc.syscall(437, -100, b"/workspace/x", how, 24) >= 0
how = struct.pack("QQQ", os.O_TMPFILE | os.O_RDWR, 0o600, 0)
assert libc.syscall(437, -100, b"/workspace", how, 24) >= 0
"""
    )
    [made] = archive.operations("create", "/workspace/x")
    assert made["flags"] == ["create", "exclusive"]
    assert made["mode"] == "0640"
    accesses = {line["access"] for line in archive.operations("open", "/workspace/x")}
    assert accesses == {"read", "write", "path", "read_write"}


@pytest.mark.breaks("unclean:unreadable", "counter:unreadable")
def test_a_send_whose_message_is_gone_when_it_returns_is_not_clean(watch: Watch) -> None:
    """Room for the datagram is made after its header was unmapped: nobody can say to whom it went."""
    archive = watch(
        LIBC
        + """
import socket
taker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
taker.bind("/workspace/taker")
filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
filler.connect("/workspace/taker")
filler.setblocking(False)
sent = 0
try:
    while True: sent += filler.send(b"x")
except BlockingIOError: pass
address = ctypes.create_string_buffer(struct.pack("H", 1) + b"/workspace/taker", 110)
text = ctypes.create_string_buffer(b"hidden", 6)
parts = struct.pack("QQ", ctypes.addressof(text), 6)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
message = struct.pack("QIIQQQQI", ctypes.addressof(address), 110, 0, 0, 1, 0, 0, 0)
held = ctypes.create_string_buffer(parts, 16)
ctypes.memmove(page, message, len(message))
ctypes.memmove(page + 16, struct.pack("Q", ctypes.addressof(held)), 8)
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
got = []
def send(): got.append(libc.syscall(46, sender.fileno(), ctypes.c_void_p(page), 0))
other = threading.Thread(target=send)
other.start()
time.sleep(0.5)
assert libc.munmap(ctypes.c_void_p(page), 4096) == 0
for _ in range(sent): taker.recv(16)
other.join()
assert got == [6] and taker.recv(16) == b"hidden"
""",
        ends=3,
        unclean=("unreadable",),
    )
    assert [
        line["outcome"] for line in [line for line in archive.kernel if line["operation"] == "sendmsg"]
    ] == ["ok"]


def test_a_name_as_long_as_the_kernel_takes_is_told_and_marked(watch: Watch) -> None:
    """4,095 bytes: the length was masked to nothing, and the program took the place of what was declared."""
    archive = watch(
        """
import os
os.symlink("/usr/bin/env", "/workspace/e")
name = "/workspace" + "/" * (4095 - len("/workspacee")) + "e"
assert len(name) == 4095
child = os.posix_spawn(name, ["env", "true"], {"PATH": "/usr/bin"})
assert os.waitpid(child, 0)[1] == 0
""",
        ends=3,
        unclean=("truncated",),
    )
    lines = [line for line in archive.operations("exec", "/usr/bin/env") if line["called"]]
    assert [len(line["called"]) for line in lines] == [4095]


def test_the_root_of_a_file_system_has_a_name(watch: Watch) -> None:
    """A root is hashed nowhere, as an unlinked file is; it was told as one."""
    archive = watch(
        "import os\nfor name in ('/', '/workspace', '/proc', '/dev'): os.open(name, os.O_RDONLY)\n"
    )
    opens = {line["path"]: line.get("flags") or [] for line in archive.kernel if line["operation"] == "open"}
    assert "unlinked" not in opens["/"] + opens["/workspace"]


@pytest.mark.breaks("guard:leases")
def test_a_lease_is_refused(watch: Watch) -> None:
    """Who holds one stops others in the middle of an open for as long as he likes."""
    watch(
        """
import ctypes, errno, fcntl, os
fd = os.open("/workspace/x", os.O_CREAT | os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
for command in (1024, 1024 | 1 << 32, 1024 | 0xFFFFFFFF << 32):
    assert libc.syscall(72, fd, ctypes.c_ulong(command), 0) == -1 and ctypes.get_errno() == errno.EPERM
assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
fcntl.lockf(fd, fcntl.LOCK_EX)
fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
"""
    )


def test_an_open_that_was_interrupted_is_not_joined_to_another_one(watch: Watch) -> None:
    """Same name, other access: the kernel repeats a call with its own arguments, so this is a second call."""
    archive = watch(
        """
import os, signal
os.mkfifo("/workspace/f")
def stop(*_): raise InterruptedError
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: os.open("/workspace/f", os.O_RDONLY)
except InterruptedError: pass
os.open("/workspace/f", os.O_RDWR)
"""
    )
    found = {(line["access"], line["outcome"]) for line in archive.operations("open", "/workspace/f")}
    assert found == {("read", "EINTR"), ("read_write", "ok")}


def test_a_name_that_lies_in_the_file_it_cuts_is_not_told_as_another(watch: Watch) -> None:
    """After truncate() its own name is shorter: what the kernel read is what was there before."""
    archive = watch(
        LIBC
        + """
fd = os.open("/workspace/ab", os.O_CREAT | os.O_RDWR)
os.write(fd, b"z" * 64)
page = mmap.mmap(fd, 64)
page[:14] = b"/workspace/ab" + bytes(1)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
assert libc.truncate(ctypes.c_void_p(at), ctypes.c_long(len("/workspace/a"))) == 0
assert os.fstat(fd).st_size == 12
os._exit(0)
""",
        ends=3,
        unclean=("changed",),
    )
    assert [line["outcome"] for line in archive.kernel if line["operation"] == "truncate"] == ["ok"]


SWAPS = """
import threading, time
os.mkdir("/workspace/d")
name = ctypes.create_string_buffer(b"/workspace/d/one", 32)
done = False
def swap():
    while not done:
        name.raw = b"/workspace/d/one".ljust(32, b"\\0")
        name.raw = b"/workspace/d/two".ljust(32, b"\\0")
other = threading.Thread(target=swap)
other.start()
for _ in range(20000): libc.mkdir(name, 0o755); libc.rmdir(name)
done = True
other.join()
"""


def test_names_that_are_swapped_all_the_time_are_caught(watch: Watch) -> None:
    watch(LIBC + SWAPS, ends=3, unclean=("changed",))


def test_a_name_that_was_not_there_when_the_call_began_is_not_clean(watch: Watch) -> None:
    """The page comes from a file and nobody has touched it yet: what the kernel then read, nobody knows."""
    watch(
        LIBC
        + """
with open("/workspace/names", "wb") as file: file.write(bytes(1 << 20) + b"/workspace/made\\0")
fd = os.open("/workspace/names", os.O_RDONLY)
page = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
at = ctypes.addressof(ctypes.c_char.from_buffer(page)) + (1 << 20)
assert libc.mkdir(ctypes.c_void_p(at), 0o755) == 0
os._exit(0)
""",
        ends=3,
        unclean=("unreadable",),
    )


def test_honest_operations_on_names_are_clean_and_told_once(watch: Watch) -> None:
    """All that take names; names that are not there, not readable, too long, relative, empty and null."""
    archive = watch(
        LIBC
        + """
os.chdir("/workspace")
os.mkdir("d"); os.rename("d", "e"); os.symlink("e", "s"); os.mkfifo("f"); os.link("f", "g")
os.truncate(os.open("t", os.O_CREAT | os.O_RDWR) and "t", 7); os.chmod("t", 0o600); os.utime("t")
os.unlink("g"); os.rmdir("e")
folder = os.open("/workspace", os.O_RDONLY)
os.mkdir("d", dir_fd=folder); os.rename("d", "e", src_dir_fd=folder, dst_dir_fd=folder)
os.utime(os.open("t", os.O_RDONLY))
for call in (lambda: os.rename("no", "where"), lambda: os.unlink("x" * 300), lambda: os.rmdir("")):
    try: call()
    except OSError: pass
assert libc.syscall(87, ctypes.c_void_p(8)) == -1 and ctypes.get_errno() == 14
assert libc.syscall(82, b"t", ctypes.c_void_p(8)) == -1 and ctypes.get_errno() == 14
assert libc.syscall(188, b"t", b"user.x", b"1", 1, 0) in (0, -1)
os.memfd_create("m")
""",
    )
    assert archive.actions("/workspace/e") == {
        ("create", "done", ("subject",)),
        ("delete", "done", ("subject",)),
    }
    assert [line["outcome"] for line in archive.operations("rename", "/workspace/no")] == ["ENOENT"]
    assert len(archive.operations("truncate", "/workspace/t")) == 1


def test_unix_sockets_have_one_name_the_kernels(watch: Watch) -> None:
    """Relative, by a link, long and abstract; the file that bind makes is made by the agent."""
    archive = watch(
        """
import os, socket
os.chdir("/workspace")
os.mkdir("d"); os.symlink("d", "link")
held = []
def listen(name, kind=socket.SOCK_STREAM):
    one = socket.socket(socket.AF_UNIX, kind); one.bind(name); held.append(one)
    if kind == socket.SOCK_STREAM: one.listen()
def call(name, kind=socket.SOCK_STREAM):
    one = socket.socket(socket.AF_UNIX, kind); one.connect(name); held.append(one)
listen("rel.sock"); call("./rel.sock"); call("../workspace/rel.sock")
listen("link/by-link", socket.SOCK_DGRAM); call("d/by-link", socket.SOCK_DGRAM)
listen("@abs"); call("@abs")
listen(b"\\0@abs"); listen(b"\\0abs"); call(b"\\0abs")
listen("x" * 107); call("x" * 107)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "d/by-link")
for name in ("gone.sock", "/workspace/d/../gone.sock"):
    try: call(name)
    except FileNotFoundError: pass
""",
    )
    told = {
        (line["operation"], line["address"], line["outcome"])
        for line in archive.kernel
        if line.get("address")
    }
    long = "/workspace/" + "x" * 107
    assert told == {
        ("bind", "/workspace/rel.sock", "ok"), ("connect", "/workspace/rel.sock", "ok"),
        ("bind", "/workspace/d/by-link", "ok"), ("connect", "/workspace/d/by-link", "ok"),
        ("bind", "/workspace/@abs", "ok"), ("connect", "/workspace/@abs", "ok"),
        ("bind", "@@abs", "ok"), ("bind", "@abs", "ok"), ("connect", "@abs", "ok"),
        ("bind", long, "ok"), ("connect", long, "ok"),
        ("sendto", "/workspace/d/by-link", "ok"), ("connect", "/workspace/gone.sock", "ENOENT"),
    }  # fmt: skip
    for path in ("/workspace/rel.sock", "/workspace/d/by-link", long):
        assert archive.actions(path) == {("create", "done", ("subject",))}
