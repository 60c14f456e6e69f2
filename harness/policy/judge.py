"""What becomes of each line: judged, relayed, answered or refused.

Stdlib only, shipped beside the proxy.
"""

from _socket import socket

from harness.policy import wire
from harness.policy.decisions import DecisionChannel
from harness.policy.rules import MISSING_ID, Policy, Verdict
from harness.policy.server import Server
from harness.policy.session import Session


class RunRules:
    """What holds for all sessions of one run.

    `legacy`: the servers predate revision 2026-07-28, so server/discover is answered here.
    """

    def __init__(self, policy: Policy, server: Server, *, legacy: bool) -> None:
        self.policy = policy
        self.server = server
        self.legacy = legacy
        self.seen: set[str] = set()  # every tool_call_id so far


class JudgedSession(Session):
    """A session that forwards nothing unjudged."""

    def __init__(self, connection: socket, decisions: DecisionChannel, rules: RunRules) -> None:
        super().__init__(connection, decisions, rules.server)
        self.rules = rules

    def on_client_line(self, line: bytes | None) -> None:
        try:
            message = wire.read_message(line)
            self.check_ids(message)
        except wire.Refused as refused:
            self.refuse(refused)
            return
        if message.method == "server/discover" and self.rules.legacy:
            self.answer(wire.error(wire.NOT_PERMITTED, "Method not found", message.id))
        elif message.call is not None:
            self._judge(message, message.call)
        else:
            self.forward(message, gate=0)

    def on_server_line(self, line: bytes | None) -> None:
        if line is None:
            self.decisions.emit("assay.proxy.rejected", reason="response_too_long")
            self.kill()
            return
        skimmed = wire.skim(line)
        if skimmed is not None and skimmed.kind == "request":
            self.asked.add(skimmed.id)
        elif skimmed is not None:
            tool_call_id = self.in_flight.pop(skimmed.id, None)
            if tool_call_id is not None:
                self.decisions.emit(
                    "assay.tool.answered",
                    tool_call_id=tool_call_id,
                    request_id=skimmed.id,
                    is_error=skimmed.is_error,
                )
        self.answer(line + b"\n")

    def _judge(self, message: wire.Message, call: wire.Call) -> None:
        policy = self.rules.policy
        tool_call_id, id_key = policy.find_id(call.meta, call.arguments)
        if tool_call_id is None:
            verdict = Verdict("deny", MISSING_ID, MISSING_ID)
        else:
            verdict = policy.judge(call.tool, call.arguments)
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
                policy_digest=policy.digest,
                paths=policy.paths_of(call.arguments),
                args_sha256=call.args_sha256,
            )
        except OverflowError:  # what cannot be recorded is not forwarded
            self.refuse(wire.Refused("decision_too_long", wire.INVALID_PARAMS, message.id, message.method))
            return
        if tool_call_id is not None:
            self.rules.seen.add(tool_call_id)
        if verdict.decision == "allow":
            self.forward(message, gate=self.decisions.lines, tool_call_id=tool_call_id)
        else:
            text = f"denied by policy: tool {call.tool!r}, rule {verdict.rule!r}"
            self.answer(wire.denial(message, verdict.rule, text))
