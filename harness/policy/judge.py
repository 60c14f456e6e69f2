"""What becomes of each line: judged, relayed, answered or refused.

Stdlib only, shipped beside the proxy.
"""

from _socket import socket

from harness.policy import wire
from harness.policy.decisions import DecisionChannel
from harness.policy.lines import Overlong
from harness.policy.paths import is_unicode
from harness.policy.refusals import Budget, Refusals
from harness.policy.rules import MISSING_ID, Policy, Verdict
from harness.policy.server import Server
from harness.policy.session import Session


class RunRules:
    """What holds for all sessions of one run.

    `legacy`: the servers predate revision 2026-07-28, so server/discover is answered here.
    """

    def __init__(self, policy: Policy, server: Server, budget: Budget, *, legacy: bool) -> None:
        self.policy = policy
        self.server = server
        self.budget = budget
        self.legacy = legacy
        self.seen: set[str] = set()  # every tool_call_id so far


class JudgedSession(Session):
    """A session that forwards nothing unjudged; `number` counts connections from 1."""

    def __init__(self, connection: socket, decisions: DecisionChannel, rules: RunRules, number: int) -> None:
        super().__init__(connection, decisions, rules.server, Refusals(number, rules.budget), number)
        self.rules = rules

    def on_client_line(self, line: bytes | Overlong) -> None:
        try:
            message = wire.read_message(line, self.rules.policy.served)
            self.check_ids(message)
            if message.method == "server/discover" and self.rules.legacy:
                raise wire.Refused("legacy_server", wire.NOT_PERMITTED, message.id, message.method)
            if message.call is not None:
                self._judge(message, message.call)
            elif message.ask is not None:
                self._judge_ask(message, message.ask)
            else:
                self.forward(message, gate=0)
        except wire.Refused as refused:
            self.refuse(refused)

    def on_server_line(self, line: bytes | Overlong) -> None:
        if isinstance(line, Overlong):
            self.kill("response_too_long")
            return
        skimmed = wire.skim(line)
        if skimmed is not None and skimmed.kind == "request":
            self.asked.add(skimmed.id)
        elif skimmed is not None:
            pending = self.in_flight.pop(skimmed.id, None)
            if pending is not None and pending.method in wire.ANNOUNCES:
                line = wire.announced(line, self.rules.policy.served)
            if pending is not None and pending.tool_call_id is not None:
                self.decisions.emit(
                    "assay.tool.answered",
                    tool_call_id=pending.tool_call_id,
                    request_id=skimmed.id,
                    connection=self.number,
                    is_error=skimmed.is_error,
                )
        self.answer(line + b"\n")

    def _judge(self, message: wire.Message, call: wire.Call) -> None:
        policy = self.rules.policy
        twin = policy.twin(call.meta, call.arguments)
        tool_call_id, id_key = policy.find_id(call.meta, call.arguments)
        if twin is not None or not is_unicode(tool_call_id or ""):
            reason = "bad_tool_call_id" if twin is None else "ambiguous_key"
            raise wire.Refused(reason, wire.INVALID_PARAMS, message.id, message.method)
        if tool_call_id is None:
            verdict = Verdict("deny", MISSING_ID, MISSING_ID)
        else:
            verdict = policy.judge(call.tool, call.arguments)
        notes = policy.notes(call.tool, call.arguments, verdict)
        try:
            self.decisions.emit(
                "assay.tool.decision",
                tool=call.tool,
                decision=verdict.decision,
                reason_code=verdict.reason_code,
                rule=verdict.rule,
                tool_call_id=tool_call_id,
                id_key=id_key,
                duplicate_id=tool_call_id in self.rules.seen,
                request_id=message.id,
                connection=self.number,
                policy_digest=policy.digest,
                paths=policy.paths_of(call.arguments),
                args_sha256=call.args_sha256,
                **({"notes": notes} if notes else {}),
            )
        except OverflowError:  # what cannot be recorded is not forwarded
            raise wire.Refused("decision_too_long", wire.INVALID_PARAMS, message.id, message.method) from None
        if tool_call_id is not None:
            self.rules.seen.add(tool_call_id)
        if verdict.decision == "allow":
            self.forward(message, gate=self.decisions.lines, tool_call_id=tool_call_id)
        else:
            text = _why(f"tool {call.tool!r}", verdict, notes)
            self.answer(wire.denial(message, verdict.rule, text))

    def _judge_ask(self, message: wire.Message, ask: wire.Ask) -> None:
        policy = self.rules.policy
        verdict = policy.judge_name(ask.kind, ask.name)
        notes = policy.name_notes(ask.kind, ask.name, verdict)
        self.decisions.emit(
            "assay.proxy.judged",
            about=ask.kind,
            method=message.method,
            name=ask.name,
            decision=verdict.decision,
            reason_code=verdict.reason_code,
            rule=verdict.rule,
            request_id=message.id,
            connection=self.number,
            policy_digest=policy.digest,
            **({"notes": notes} if notes else {}),
        )
        if verdict.decision == "allow":
            self.forward(message, gate=self.decisions.lines)
        else:
            text = _why(f"{ask.kind[:-1]} {ask.name!r}", verdict, notes)
            told = {"decision": "deny", "rule": verdict.rule}
            self.answer(wire.error(wire.INVALID_PARAMS, text, message.id, **told))


def _why(what: str, verdict: Verdict, notes: list[str]) -> str:
    because = f" ({', '.join(notes)})" if notes else ""
    return f"denied by policy: {what}, rule {verdict.rule!r}{because}"
