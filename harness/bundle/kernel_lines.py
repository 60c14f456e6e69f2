"""The two kernel layers, which may have a million lines each, as the few distinct facts that they hold.

A block of lines is taken at once where it can be: same beginning, running numbers, and what follows seen
before or of the model's template. Lines stay bytes: what was seen before was found to be UTF-8 then.
Whatever does not fit is left to the codec, line by line, which accepts no more and no less (a test holds
the two against each other).
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter, lt
from typing import Any

from attrs import evolve, frozen

from harness.bundle.numbered import Beginnings
from harness.bundle.templates import PLAIN, template
from harness.contracts import kernel_event
from harness.contracts.bounds import MAX_DISTINCT
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion_evidence import KERNEL_EVENT_V1, KernelEventV1
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.rules import RuleError
from harness.evidence.classify import EventClass
from harness.evidence.surface_v1 import wants_change
from harness.evidence.syscalls import outcome_of

MAX_KNOWN = 100_000  # entries of what is only kept to save time: then it is forgotten
MAX_MODELS = 10_000  # lines that are kept as models, each of a kilobyte: several rules ask for them
_PID = re.compile(rb"(?:0|[1-9][0-9]{0,18}),")
_PLAIN = re.compile(PLAIN)
_VALUE = b'"value":"'
_V0 = template(KernelEvent, "event_type")
_V1 = template(KernelEventV1, "path")
_HEAD = re.compile(
    r'"role":"([^"\\\x00-\x1f]*)","process":"([^"\\\x00-\x1f]*)","operation":"([^"\\\x00-\x1f]*)",'
    r'"outcome":"([^"\\\x00-\x1f]*)","event_class":"([^"\\\x00-\x1f]*)","path":'
)
_PATH = b',"path":'
FIRST_OF_TOOLS = "tools.0"


@frozen
class V0Fact:
    """A retained event without its numbers; outcome None: no result was seen."""

    event_type: int
    value: str | None
    flags: int | None
    mode: int | None
    outcome: str | None


# Event type, flags, mode and outcome: a fact without its value.
_Shape = tuple[int, int | None, int | None, str | None]


class TooManyError(Exception):
    """More distinct facts than a verifier holds."""


class V0Kernel:
    """Facts of layers/kernel.ndjson; `count` of its lines."""

    model = KernelEvent

    def __init__(self, run_id: str) -> None:
        self.count = 0
        self._values: dict[_Shape, set[str | None]] = {}
        self._held = 0
        self._pids: set[bytes] = set()  # good ones, each with its comma
        self._seen: set[bytes] = set()  # what follows it
        self._around: dict[tuple[bytes, bytes], set[str | None]] = {}  # the same without a string's inside
        self._prefix = f'{{"schema":"{kernel_event.SCHEMA}","run_id":"{run_id}","seq":'.encode()
        self._beginnings = Beginnings(self._prefix, b',"pid":')

    def take(self, lines: list[bytes]) -> bool:
        """Take the lines, one at least, if all of them are beyond doubt."""
        start = self._beginnings.end(lines, self.count)
        if start is None:
            return False
        rests = self._after_pid(lines, start)
        if rests is None:
            return False
        if not self._seen.issuperset(rests) and not self._learn(set(rests) - self._seen):
            return False
        self.count += len(lines)
        return True

    def add(self, model: KernelEvent) -> None:
        """A line that the codec has accepted."""
        self._hold(self._values.setdefault(_shape(model), set()), model.value)
        self.count += 1

    def facts(self) -> Iterator[V0Fact]:
        """Each distinct fact once."""
        for (event_type, flags, mode, outcome), values in self._values.items():
            for value in values:
                yield V0Fact(event_type, value, flags, mode, outcome)

    def _after_pid(self, lines: list[bytes], start: int) -> list[bytes] | None:
        """The lines from after their pid on, which begins at `start`; None if one has no pid there."""
        end = lines[0].find(b",", start) + 1
        if self._are_pids(set(map(itemgetter(slice(start, end)), lines))):
            return list(map(itemgetter(slice(end, None)), lines))
        parts = [line[start:].partition(b",") for line in lines]  # of several lengths: that takes longer
        return [part[2] for part in parts] if self._are_pids({part[0] + part[1] for part in parts}) else None

    def _are_pids(self, found: set[bytes]) -> bool:
        new = found - self._pids
        if not all(map(_PID.fullmatch, new)):
            return False
        if len(self._pids) >= MAX_KNOWN:
            self._pids.clear()
        self._pids |= new
        return True

    def _learn(self, rests: set[bytes]) -> bool:
        """Are they good, and do their derived keys follow? Then their facts are held."""
        if len(self._seen) >= MAX_KNOWN:
            self._seen.clear()
        for rest in rests:
            head, _, after = rest.partition(_VALUE)
            inside, _, tail = after.partition(b'"')
            try:
                value = inside.decode()
                values = self._around.get((head, tail))
                # No other key depends on the value: where one string was good, any will do.
                if values is not None and _PLAIN.fullmatch(value):
                    self._hold(values, value)
                elif not self._sound(rest.decode(), head, value, tail):
                    return False
            except UnicodeDecodeError:
                return False
            self._seen.add(rest)
        return True

    def _sound(self, rest: str, head: bytes, value: str, tail: bytes) -> bool:
        found = _V0.fullmatch(rest)
        if found is None and not _is_canonical(self.model, f'{self._prefix.decode()}0,"pid":0,{rest}'):
            return False
        event = KernelEvent(run_id="", seq=0, pid=0, **_fields("{" + rest))
        try:
            event.validate()
        except RuleError:
            return False
        values = self._values.setdefault(_shape(event), set())
        self._hold(values, event.value)
        if found is not None and found["value"] == f'"{value}"':
            if len(self._around) >= MAX_KNOWN:
                self._around.clear()
            self._around[head, tail] = values
        return True

    def _hold(self, values: set[str | None], value: str | None) -> None:
        if value in values:
            return
        values.add(value)
        self._held += 1
        if self._held > MAX_DISTINCT:
            raise TooManyError(f"more than {MAX_DISTINCT} distinct ones")


class V1Kernel:
    """Facts of companion/kernel.ndjson: its distinct lines, without the process where it matters to nobody.

    The lines are a sorted set: their order is checked here, `unordered` has the first line that is not
    in it (counted from 1), None if all are.
    """

    model = KernelEventV1

    def __init__(self, run_id: str) -> None:
        self.count = 0
        self.unordered: int | None = None
        self.processes: set[tuple[str, str]] = set()  # (role, process)
        self.classes: Counter[str] = Counter()  # lines of each class
        self._rests: dict[bytes, set[bytes]] = {}  # head -> what follows it
        self._heads: dict[bytes, bytes] = {}  # head -> the head under which its lines are held
        self._known: set[bytes] = set()
        self._changing: set[bytes] = set()  # of `_known`: opens that want to change something
        self._held = 0
        self._models: tuple[KernelEventV1, ...] = ()
        self._last = b""
        self._prefix = f'{{"schema":"{KERNEL_EVENT_V1}","run_id":"{run_id}","seq":'.encode()
        self._beginnings = Beginnings(self._prefix, b",")

    def take(self, lines: list[bytes]) -> bool:
        """Take the lines, one at least, if all of them are beyond doubt."""
        # As bytes they sort as their code points do (RFC 3629 §1).
        start = self._beginnings.end(lines, self.count)
        if start is None:
            return False
        tails = list(map(itemgetter(slice(start, None)), lines))
        if not self._last < tails[0] or not all(map(lt, tails, islice(tails, 1, None))):
            return False
        at, classes = 0, Counter[str]()
        while at < len(tails):
            end = tails[at].find(_PATH) + len(_PATH)
            head = tails[at][:end]
            if head not in self._heads and not self._new_head(head):
                return False
            # In a sorted list all lines with one beginning stand together.
            stop = bisect_left(tails, head[:-1] + b";", at)  # what comes after a colon
            if not self._take_rests(head, list(map(itemgetter(slice(end, None)), tails[at:stop]))):
                return False
            classes[_class(head)] += stop - at
            at = stop
        self.classes += classes
        self._last = tails[-1]
        self.count += len(lines)
        return True

    def add(self, model: KernelEventV1) -> None:
        """A line that the codec has accepted; one in escapes is held as well as any other."""
        tail = to_bytes(unstructure(evolve(model, seq=0)))
        tail = tail[tail.index(b'"role":') :]
        if self.unordered is None and tail <= self._last:
            self.unordered = self.count + 1
        self._last = tail
        self.processes.add((model.role, model.process))
        head = _head(model)
        held = self._heads.setdefault(head, _head_of(model))
        rest = tail[len(head) :]
        self._hold(held, {rest})
        if _writes(model):
            self._changing.add(rest)
            self._hold(head, {rest})
        self._known.add(rest)
        self.classes[model.event_class] += 1
        self.count += 1

    def lines(self) -> Iterable[KernelEventV1]:
        """Each distinct line once; `process` is empty where it was not kept (see `_head_of`)."""
        if self._held > MAX_MODELS:
            return self._each()
        if len(self._models) != self._held:
            self._models = tuple(self._each())
        return self._models

    def _each(self) -> Iterator[KernelEventV1]:
        for head, rests in self._rests.items():
            for rest in rests:
                yield _line_of(head, rest)

    def _new_head(self, head: bytes) -> bool:
        try:
            found = _HEAD.fullmatch(head.decode())
        except UnicodeDecodeError:
            return False
        if found is None:
            return False
        role, process, operation, outcome, event_class = found.groups()
        self.processes.add((role, process))
        model = KernelEventV1(
            run_id="", seq=0, role=role, process=process, operation=operation, outcome=outcome,
            event_class=event_class,
        )  # fmt: skip
        self._heads[head] = _head_of(model)
        return True

    def _take_rests(self, head: bytes, rests: list[bytes]) -> bool:
        held = self._heads[head]
        if not self._rests.setdefault(held, set()).issuperset(rests):
            if not all(self._new_rest(head, rest) for rest in set(rests) - self._known):
                return False
            self._hold(held, rests)
        if held != head and self._changing:
            self._hold(head, self._changing.intersection(rests))
        return True

    def _new_rest(self, head: bytes, rest: bytes) -> bool:
        try:
            text = rest.decode()
        except UnicodeDecodeError:
            return False
        found = _V1.fullmatch(f'"path":{text}')
        if found is not None:
            writes = found["access"] is not None and wants_change(
                found["access"][1:-1], json.loads(found["flags"] or "[]")
            )
        elif _is_canonical(self.model, f"{self._prefix.decode()}0,{head.decode()}{text}"):
            writes = _writes(_line_of(head, rest))
        else:
            return False
        if writes:
            self._changing.add(rest)
        self._known.add(rest)
        return True

    def _hold(self, head: bytes, rests: Iterable[bytes]) -> None:
        have = self._rests.setdefault(head, set())
        before = len(have)
        have.update(rests)
        self._held += len(have) - before
        if self._held > MAX_DISTINCT:
            raise TooManyError(f"more than {MAX_DISTINCT} distinct ones")


def _is_canonical(cls: type, line: str) -> bool:
    """What the codec says of one line that does not match: it may be in escapes."""
    try:
        return to_bytes(unstructure(parse(cls, load_json(line.encode(), "")))) == line.encode()
    except ContractError:
        return False


def _fields(document: str) -> dict[str, Any]:
    """The fields of a line that was found to be sound."""
    return {
        key: tuple(value) if type(value) is list else value for key, value in json.loads(document).items()
    }


def _shape(event: KernelEvent) -> _Shape:
    outcome = None if event.return_value is None else outcome_of(event.return_value)
    return event.event_type, event.flags, event.mode, outcome


def _line_of(head: bytes, rest: bytes) -> KernelEventV1:
    return KernelEventV1(run_id="", seq=0, **_fields("{" + (head + rest).decode()))


def _head(model: KernelEventV1, process: str | None = None) -> bytes:
    """The beginning of a line, after its number and before its path."""
    keys = ("role", "process", "operation", "outcome", "event_class")
    said = {key: getattr(model, key) for key in keys}
    if process is not None:
        said["process"] = process
    return to_bytes(said)[1:-1] + _PATH


def _head_of(model: KernelEventV1) -> bytes:
    """Under which the line is held: which process it was matters to attribution, to the process tree and to
    what is plumbing, and those speak of few lines."""
    kept = model.operation in ("connect", "exec") or model.process == FIRST_OF_TOOLS
    if kept or model.event_class == EventClass.EVIDENCE:
        return _head(model)
    return _head(model, "")


def _class(head: bytes) -> str:
    return head.removesuffix(_PATH).rsplit(b'"', 2)[1].decode()


def _writes(model: KernelEventV1) -> bool:
    return model.access is not None and wants_change(model.access, model.flags or ())
