"""What the host is told of refusals: each one, until there are very many of the same kind.

Stdlib only, shipped beside the proxy. An agent can be refused a million times; the host learns of
the first TOLD of a kind one by one, with their ids, and of the others how many there were.
"""

from harness.policy.decisions import DecisionChannel
from harness.policy.paths import is_unicode
from harness.policy.wire import Refused, is_request_id

TOLD = 100  # of one reason and method, on one connection
MAX_TOLD = 10_000  # of the whole run, counts included: then no more is told, and the run is not clean
UNTOLD = "too_many_refusals"
MAX_METHOD = 256  # characters; a longer one is told as none


class Budget:
    """What is left of MAX_TOLD, for all connections of a run."""

    def __init__(self, decisions: DecisionChannel) -> None:
        self._decisions = decisions
        self._left = MAX_TOLD

    @property
    def spent(self) -> bool:
        return not self._left

    def tell(self, **data: object) -> None:
        """A refusal."""
        self._emit("assay.proxy.rejected", **data)

    def limited(self, connection: int, reason: str) -> None:
        """That nothing of a connection was served, or no more is told."""
        self._emit("assay.proxy.limited", connection=connection, reason=reason)

    def _emit(self, kind: str, **data: object) -> None:
        if self._left:
            self._left -= 1
            self._decisions.emit(kind, **data)
            if not self._left:
                self._decisions.emit("assay.proxy.limited", connection=0, reason=UNTOLD)


class Refusals:
    """Those of one connection."""

    def __init__(self, connection: int, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget
        self._counts: dict[tuple[str, str | None], int] = {}

    def add(self, refused: Refused) -> None:
        method = _method(refused.method)
        kind = (refused.reason, method)
        count = self._counts.get(kind, 0) + 1
        if self._budget.spent and count == 1:
            return  # another kind would take memory
        self._counts[kind] = count
        if count <= TOLD:
            known = refused.request_id if is_request_id(refused.request_id) else None
            self._budget.tell(
                connection=self._connection, reason=refused.reason, method=method, request_id=known
            )

    def flush(self) -> None:
        """At the end of the connection: how many there were beyond those that were told."""
        for (reason, method), count in self._counts.items():
            if count > TOLD:
                self._budget.tell(
                    connection=self._connection, reason=reason, method=method, count=count - TOLD
                )
        self._counts.clear()


def _method(method: str | None) -> str | None:
    known = method is not None and len(method) <= MAX_METHOD and is_unicode(method)
    return method if known else None
