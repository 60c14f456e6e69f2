"""The two kernel layers, which may have a million lines each, as the few distinct facts that they hold.

A block of lines is taken at once where it can be: same beginning, running numbers, and what follows seen
before or of the model's template. Whatever does not fit is left to the codec, line by line, which accepts
no more and no less (a test holds the two against each other).
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import lt
from typing import Any

from attrs import evolve, frozen

from harness.bundle.templates import template
from harness.contracts import kernel_event
from harness.contracts.canonical import load_json, to_bytes
from harness.contracts.companion_evidence import KERNEL_EVENT_V1, KernelEventV1
from harness.contracts.converter import ContractError, parse, unstructure
from harness.contracts.kernel_event import KernelEvent
from harness.contracts.rules import RuleError
from harness.evidence.classify import EventClass
from harness.evidence.surface_v1 import wants_change
from harness.evidence.syscalls import outcome_of

MAX_DISTINCT = 500_000  # facts that are held of one layer
_PID = re.compile(r'"pid":(?:0|[1-9][0-9]{0,18})')
_V0 = template(KernelEvent, "event_type")
_V1 = template(KernelEventV1, "path")
_HEAD = re.compile(
    r'"role":"([^"\\\x00-\x1f]*)","process":"([^"\\\x00-\x1f]*)","operation":"([^"\\\x00-\x1f]*)",'
    r'"outcome":"([^"\\\x00-\x1f]*)","event_class":"([^"\\\x00-\x1f]*)","path":'
)
_PATH = ',"path":'
FIRST_OF_TOOLS = "tools.0"


@frozen
class V0Fact:
    """A retained event without its numbers; outcome None: no result was seen."""

    event_type: int
    value: str | None
    flags: int | None
    mode: int | None
    outcome: str | None


class TooManyError(Exception):
    """More distinct facts than a verifier holds."""


class V0Kernel:
    """Facts of layers/kernel.ndjson; `count` of its lines."""

    model = KernelEvent

    def __init__(self, run_id: str) -> None:
        self.count = 0
        self.facts: set[V0Fact] = set()
        self._seen: set[str] = set()
        self._prefix = f'{{"schema":"{kernel_event.SCHEMA}","run_id":"{run_id}","seq":'

    def take(self, lines: list[str]) -> bool:
        """Take the lines if all of them are beyond doubt."""
        tails = _tails(lines, self._prefix, self.count)
        if tails is None:
            return False
        parts = [tail.partition(",") for tail in tails]
        if not all(map(_PID.fullmatch, {part[0] for part in parts})):
            return False
        for rest in {part[2] for part in parts} - self._seen:
            good = _V0.fullmatch(rest) or _is_canonical(self.model, f'{self._prefix}0,"pid":0,{rest}')
            if not good or not self._sound(rest):
                return False
            self._learn(rest)
        self.count += len(lines)
        return True

    def add(self, model: KernelEvent) -> None:
        """A line that the codec has accepted."""
        self._hold(_v0_fact(model))
        self.count += 1

    def _learn(self, rest: str) -> None:
        if len(self._seen) >= MAX_DISTINCT // 2:
            self._seen.clear()  # it only saves time
        self._seen.add(rest)

    def _sound(self, rest: str) -> bool:
        """Do the derived keys of a line that matches follow? If so its fact is held."""
        event = KernelEvent(run_id="", seq=0, pid=0, **_fields("{" + rest))
        try:
            event.validate()
        except RuleError:
            return False
        self._hold(_v0_fact(event))
        return True

    def _hold(self, fact: V0Fact) -> None:
        self.facts.add(fact)
        if len(self.facts) > MAX_DISTINCT:
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
        self._rests: dict[str, set[str]] = {}  # head -> what follows it
        self._heads: dict[str, str] = {}  # head -> the head under which its lines are held
        self._known: set[str] = set()
        self._changing: set[str] = set()  # of `_known`: opens that want to change something
        self._held = 0
        self._last = ""
        self._prefix = f'{{"schema":"{KERNEL_EVENT_V1}","run_id":"{run_id}","seq":'

    def take(self, lines: list[str]) -> bool:
        tails = _tails(lines, self._prefix, self.count)
        if tails is None or not self._last < tails[0] or not all(map(lt, tails, islice(tails, 1, None))):
            return False
        at, classes = 0, Counter[str]()
        while at < len(tails):
            end = tails[at].find(_PATH) + len(_PATH)
            head = tails[at][:end]
            if head not in self._heads and not self._new_head(head):
                return False
            # In a sorted list all lines with one beginning stand together.
            stop = bisect_left(tails, head[:-1] + chr(ord(head[-1]) + 1), at)
            if not self._take_rests(head, {tail[end:] for tail in tails[at:stop]}):
                return False
            classes[_class(head)] += stop - at
            at = stop
        self.classes += classes
        self._last = tails[-1]
        self.count += len(lines)
        return True

    def add(self, model: KernelEventV1) -> None:
        """A line that the codec has accepted; one in escapes is held as well as any other."""
        tail = to_bytes(unstructure(evolve(model, seq=0))).decode()
        tail = tail[tail.index('"role":') :]
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

    def lines(self) -> Iterator[KernelEventV1]:
        """Each distinct line once; `process` is empty where it was not kept (see `_head_of`)."""
        for head, rests in self._rests.items():
            for rest in rests:
                yield KernelEventV1(run_id="", seq=0, **_fields("{" + head + rest))

    def _new_head(self, head: str) -> bool:
        found = _HEAD.fullmatch(head)
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

    def _take_rests(self, head: str, rests: set[str]) -> bool:
        for rest in rests - self._known:
            found = _V1.fullmatch(rest)
            if found is None and not _is_canonical(self.model, f"{self._prefix}0,{head}{rest}"):
                return False
            if found is None or found["access"] is not None:
                line = KernelEventV1(run_id="", seq=0, **_fields("{" + head + rest))
                if _writes(line):
                    self._changing.add(rest)
            self._known.add(rest)
        held = self._heads[head]
        self._hold(held, rests)
        if held is not head and self._changing:
            self._hold(head, rests & self._changing)
        return True

    def _hold(self, head: str, rests: set[str]) -> None:
        have = self._rests.setdefault(head, set())
        before = len(have)
        have |= rests
        self._held += len(have) - before
        if self._held > MAX_DISTINCT:
            raise TooManyError(f"more than {MAX_DISTINCT} distinct ones")


def _tails(lines: list[str], prefix: str, first: int) -> list[str] | None:
    """The lines from after their number on; None unless all begin alike and are numbered from `first` on."""
    if len(str(first)) != len(str(first + len(lines) - 1)):
        return None
    start = len(prefix) + len(str(first)) + 1
    if [line[:start] for line in lines] != list(
        map((prefix + "%d,").__mod__, range(first, first + len(lines)))
    ):
        return None
    return [line[start:] for line in lines]


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


def _v0_fact(event: KernelEvent) -> V0Fact:
    outcome = None if event.return_value is None else outcome_of(event.return_value)
    return V0Fact(event.event_type, event.value, event.flags, event.mode, outcome)


def _head(model: KernelEventV1, process: str | None = None) -> str:
    """The beginning of a line, after its number and before its path."""
    keys = ("role", "process", "operation", "outcome", "event_class")
    said = {key: getattr(model, key) for key in keys}
    if process is not None:
        said["process"] = process
    return to_bytes(said).decode()[1:-1] + _PATH


def _head_of(model: KernelEventV1) -> str:
    """Under which the line is held: which process it was matters to attribution, to the process tree and to
    what is plumbing, and those speak of few lines."""
    if (
        model.event_class == EventClass.EVIDENCE
        or model.operation == "exec"
        or model.process == FIRST_OF_TOOLS
    ):
        return _head(model)
    return _head(model, "")


def _class(head: str) -> str:
    return head.removesuffix(_PATH).rsplit('"', 2)[1]


def _writes(model: KernelEventV1) -> bool:
    return model.access is not None and wants_change(model.access, model.flags or ())
