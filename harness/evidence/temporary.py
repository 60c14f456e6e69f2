"""Files that are made under a name of the moment and then get their own: told by the name that stays.

Programs write so to replace a file whole, and the other name is random: it would differ in each run. In
evidence `TARGET//temporary` stands for it, or `FOLDER//moved` where it was in another folder than the target.
No path of the kernel's has two slashes in a row, so no program can make a file of that name. Which names
they were is in companion/accounting.json.

A name is such a one if the run itself made the file, renamed it (or linked it elsewhere and unlinked it), and
left nothing there; and if nobody executed it, linked it otherwise, or put anything else in its place.
"""

from collections.abc import Iterable

from attrs import evolve

from harness.evidence.operations import Operation
from harness.evidence.paths import normal

TEMPORARY, MOVED = "//temporary", "//moved"
_HARMLESS = frozenset({"open", "truncate", "chmod", "chown", "utimens", "setxattr", "removexattr"})


def temporary_names(operations: Iterable[Operation]) -> dict[bytes, bytes]:
    """Name of the moment -> how it is told; `operations` in ring order."""
    made: set[bytes] = set()
    linked: dict[bytes, bytes] = {}  # files that were made, by the second name that they got
    targets: dict[bytes, bytes] = {}
    spoiled: set[bytes] = set()
    for operation in operations:
        path, path2, name = operation.path, operation.path2, operation.name
        if path is None or not operation.done or name in _HARMLESS:
            continue
        if operation.called is not None:  # a script, or a link to a program
            spoiled.add(normal(operation.called))
        if name == "create":
            made.add(path)
        elif path in made and path2 is not None and _gives_a_name(operation):
            spoiled.add(path2)  # that one stays
            if path in linked:
                spoiled.add(path)  # it has a third name
            elif name == "link":
                linked[path] = path2
            else:
                made.remove(path)
                targets[path] = path2
        elif name == "unlink" and path in linked:
            made.discard(path)
            targets[path] = linked.pop(path)
        else:
            spoiled.update(one for one in (path, path2) if one is not None)
    return {one: _told(one, targets[one]) for one in targets if one not in made | spoiled}


def with_told_names(operation: Operation, names: dict[bytes, bytes]) -> Operation:
    """The operation, with what stands for names of the moment."""
    path, path2 = operation.path, operation.path2
    told = (path and names.get(path, path), path2 and names.get(path2, path2))
    return operation if told == (path, path2) else evolve(operation, path=told[0], path2=told[1])


def is_temporary(name: str, *marks: str) -> bool:
    """Does it stand for a name of the moment? A label that is no path may look so: of a memfd, say."""
    return name.startswith("/") and name.endswith(marks or (TEMPORARY, MOVED))


def final(name: str) -> str:
    """The name that the file has in the end, where it is beside the other."""
    return name.removesuffix(TEMPORARY) if is_temporary(name, TEMPORARY) else name


def _gives_a_name(operation: Operation) -> bool:
    plain = operation.name == "link" or (operation.name == "rename" and "exchange" not in operation.flags)
    return plain and operation.path != operation.path2 and (operation.path or b"").startswith(b"/")


def _told(name: bytes, target: bytes) -> bytes:
    folder = name.rpartition(b"/")[0]
    beside = folder == target.rpartition(b"/")[0]
    return target + TEMPORARY.encode() if beside else folder + MOVED.encode()
