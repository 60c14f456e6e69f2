"""The books in companion/accounting.json: all that follows from them and from the other members.

Made with the writer's own functions: what they give again must be what the archive says.
"""

from collections.abc import Iterator

from harness.bundle.contents import Contents
from harness.bundle.meaning_layers import short, unhealthy
from harness.bundle.problem import Problem
from harness.contracts import companion
from harness.contracts.companion import (
    ACCOUNTING,
    AccountingV1,
    NetworkSealV1,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.converter import unstructure
from harness.contracts.health import LINUX, ObservationHealth
from harness.contracts.manifest import HEALTH
from harness.contracts.rules import is_sorted_unique, sorted_unique
from harness.evidence.accounting import (
    LEFT_OUT,
    LOSSES,
    SKIPPED,
    Books,
    broken,
    counter_codes,
    identities,
    losses,
    roles_of,
    seal_codes,
)
from harness.evidence.classify import UNTOLD, EventClass
from harness.evidence.health import derive_health
from harness.evidence.host_view import PLACES
from harness.evidence.layers import tool_call_ids
from harness.evidence.model import Kind, Role
from harness.evidence.temporary import is_temporary
from harness.evidence.tripwires import CODES, tripped

# Codes that stand there just when they follow; the others have causes that the archive does not hold.
_FOLLOWING = (
    "missing_witness:", "identity_broken:", "boundary_missing:", "network_seal:", "network_packets:",
    "ring_drops", "oversized", "kernel_fault", "decode_errors", "recursion_misses", "sentinel_missing",
    "left_slice", "compat_syscall", "io_uring_used", "unlabelled_process", "slice_not_empty",
    "kernel:", "decisions:left_out", "sdk:left_out",
    *CODES,
)  # fmt: skip


def accounting_problems(contents: Contents) -> Iterator[Problem]:
    books = contents.document(ACCOUNTING, AccountingV1)
    yield from _capture_problems(books)
    yield from _class_problems(contents, books)
    spec = contents.document(companion.RUNSPEC, RunSpecDocV1)
    present = {"kernel": books.capture is not None, "policy": contents.policy, "sdk": contents.sdk}
    missing = sorted_unique(name for name in spec.witnesses if not present.get(name))
    if books.missing_witnesses != missing:
        yield _wrong("/missing_witnesses", short(missing), short(books.missing_witnesses))
    globs = tuple(dict.fromkeys(spec.volatile))
    if tuple(books.volatile) != globs:
        yield _wrong("/volatile", short(globs), short(tuple(books.volatile)))
    yield from _host_view_problems(books)
    told = {name for line in contents.v1.lines() for name in (line.path, line.path2) if name is not None}
    temporary = sorted(name for name in told if is_temporary(name))
    if sorted(books.temporary or {}) != temporary:
        yield _wrong("/temporary", short(temporary), short(sorted(books.temporary or {})))
    if books.clean != (not books.unclean):
        yield _wrong("/clean", str(not books.unclean), str(books.clean))
    yield from _code_problems(books, missing, _required(contents, books, spec))


def _capture_problems(books: AccountingV1) -> Iterator[Problem]:
    counts = books.capture
    if counts is None:
        if books.identities:
            yield _wrong("/identities", "none without a capture", short(unstructure(books)["identities"]))
        return
    kinds = [kind.value for kind in Kind]
    if list(counts.kinds) != kinds:
        yield _wrong("/capture/kinds", short(kinds), short(list(counts.kinds)))
        return
    said = {identity.name: identity.right for identity in books.identities}
    by_kind = {kind: said.get(f"{kind}_decoded", 0) for kind in kinds}
    records = said.get("records", 0)
    wanted = tuple(identities(counts, by_kind, records, books.records.total))
    for index, (want, have) in enumerate(zip(wanted, books.identities, strict=False)):
        if want != have:
            yield _wrong(f"/identities/{index}", short(unstructure(want)), short(unstructure(have)))
    if len(wanted) != len(books.identities):
        yield _wrong("/identities", f"{len(wanted)} of them", str(len(books.identities)))
    if records != books.records.total:
        yield _wrong("/identities", f"{books.records.total} records, as they have classes", str(records))
    if not counts.decode_errors and sum(by_kind.values()) != records:
        yield _wrong("/identities", f"{records} records of all kinds", str(sum(by_kind.values())))
    roles = [role.value for role in Role]
    if not is_sorted_unique(counts.boundaries) or not set(counts.boundaries) <= set(roles):
        yield _wrong("/capture/boundaries", f"of {short(roles)}", short(counts.boundaries))


def _class_problems(contents: Contents, books: AccountingV1) -> Iterator[Problem]:
    """Each distinct line is one operation or more, and each operation is of one record or more."""
    classes = books.records.classes
    known = [found.value for found in EventClass]
    # A class that came later is not in archives from before it: of such, there are no records.
    if list(classes) != [name for name in known if name in classes]:
        yield _wrong("/records/classes", f"of {short(known)}", short(list(classes)))
        return
    if sum(classes.values()) != books.records.total:
        yield _wrong("/records/total", str(sum(classes.values())), str(books.records.total))
    if books.io_uring_refused != classes.get(EventClass.IO_URING_REFUSED, 0):
        expected = str(classes.get(EventClass.IO_URING_REFUSED, 0))
        yield _wrong("/io_uring_refused", expected, str(books.io_uring_refused))
    for name in known:
        lines, records = contents.v1.classes.get(name, 0), classes.get(name, 0)
        told = name not in UNTOLD
        if lines > records or (told and bool(lines) != bool(records)):
            expected = f"as many as the {lines} lines of {companion.KERNEL}, or more" if lines else "0"
            yield _wrong(f"/records/classes/{name}", expected, str(records))


def _host_view_problems(books: AccountingV1) -> Iterator[Problem]:
    """Each look is of one record or more, at a known place; without the class there are none."""
    looks, records = books.host_view, books.records.classes.get(EventClass.HOST_VIEW)
    if (looks is None) != (records is None):
        yield _wrong("/host_view", "there just if there is such a class", short(looks))
        return
    if looks is None or records is None:
        return
    if not is_sorted_unique(tuple(looks)) or not set(looks) <= set(PLACES):
        yield _wrong("/host_view", "known places, sorted", short(tuple(looks)))
    total = sum(looks.values())
    if not all(looks.values()) or total > records or bool(total) != bool(records):
        yield _wrong("/host_view", f"counts from 1 for {records} records", short(looks))


def _required(contents: Contents, books: AccountingV1, spec: RunSpecDocV1) -> set[str]:
    """Codes of `unclean` that follow from what the archive holds."""
    codes = {f"{text.split(' ', 1)[0]}:{text.partition(': ')[2].split(' ', 1)[0]}" for text in books.problems}
    if books.survivors:
        codes.add("slice_not_empty")
    if books.records.classes.get(EventClass.LEFT_OUT):
        codes.add(f"kernel:{LEFT_OUT}")
    if books.capture is None:
        return codes
    roles = roles_of(tools=spec.tools_server is not None)
    codes |= set(counter_codes(books.capture)) | broken(books.identities)
    codes |= set(seal_codes(contents.document(companion.NETWORK, NetworkSealV1).seals, roles))
    codes |= {f"boundary_missing:{role}" for role in roles if role not in books.capture.boundaries}
    if books.unlabelled:
        codes.add("unlabelled_process")
    if spec.programs is not None:
        codes |= tripped(contents.v1.lines())
    return codes | set(_tripped(contents)) | _proxy_code(contents)


def _tripped(contents: Contents) -> Iterator[str]:
    for line in contents.v1.lines():
        if line.event_class == EventClass.TRIPWIRE:
            if line.operation == "cgroup_attach":
                yield "left_slice"
            elif line.operation == "compat_syscall":
                yield "compat_syscall"
            elif line.operation.startswith("io_uring"):
                yield "io_uring_used"


def _proxy_code(contents: Contents) -> set[str]:
    for node in contents.document(companion.PROCESSES, ProcessTreeV1).processes:
        if node.process == f"{Role.TOOLS}.0" and (node.exit_code or node.signal):
            return {"proxy_failed"}
    return set()


def _code_problems(books: AccountingV1, missing: tuple[str, ...], required: set[str]) -> Iterator[Problem]:
    required = required | {f"missing_witness:{name}" for name in missing}
    if not is_sorted_unique(books.unclean):
        yield _wrong("/unclean", "codes, sorted, each once", short(books.unclean))
    for code in sorted(required - set(books.unclean)):
        yield _wrong("/unclean", code, "no such code")
    for code in books.unclean:
        if code.startswith(_FOLLOWING) and code not in required:
            yield _wrong("/unclean", f"no {code}: nothing bears it out", code)


def health_of_books_problems(contents: Contents) -> Iterator[Problem]:
    """Health is, key for key, what follows from the books and the layers."""
    books = contents.document(ACCOUNTING, AccountingV1)
    health = contents.document(HEALTH, ObservationHealth)
    drops, lost = (0, 0) if books.capture is None else losses(books.capture, set(books.unclean))
    unclean = Books((), books.unclean, drops, lost).kernel_unclean if books.capture is not None else ()
    if books.capture is not None and health.platform != LINUX:
        yield unhealthy("/platform", LINUX, health.platform)
    wanted = _health(contents, books, drops, lost, unclean)
    if books.capture is not None and books.capture.recursion_misses and health != wanted:
        # Before skipped events were a loss with a number, they made the kernel layer absent.
        marked = bool(set(books.unclean) & (LOSSES - {"ring_drops", SKIPPED}))
        without = max(lost - books.capture.recursion_misses, int(marked))
        if health == _health(contents, books, drops, without, tuple(sorted((*unclean, SKIPPED)))):
            return
    want, have = unstructure(wanted), unstructure(health)
    for key in {**want, **have}:
        if want.get(key) != have.get(key):
            yield unhealthy(f"/{key}", short(want.get(key, "no such key")), short(have.get(key)))


def _health(
    contents: Contents, books: AccountingV1, drops: int, lost: int, unclean: tuple[str, ...]
) -> ObservationHealth:
    return derive_health(
        contents.run_id,
        kernel_events=contents.v0.count,
        kernel_asked=books.capture is not None,
        ring_drops=drops,
        other_losses=lost,
        unclean=unclean,
        policy_events=len(contents.policy),
        sdk_events=len(contents.sdk),
        sdk_tool_calls=len(tool_call_ids(contents.sdk)),
        platform=contents.document(HEALTH, ObservationHealth).platform,
    )


def _wrong(pointer: str, expected: str, actual: str) -> Problem:
    return Problem("ContractAccountingMismatch", ACCOUNTING, pointer, expected, actual)
