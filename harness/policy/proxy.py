"""The policy proxy: process 1 of the tools container, between the agent's bridges and MCP servers.

    python3.11 -I -S -B proxy.py --decisions SOCKET --source URI [--users PROXY:SERVER] [--legacy]
               -- SERVER [ARGUMENT...]

Ends with 0 when the host closes the decision channel, or on SIGTERM; 2 for bad arguments or a bad
policy, 1 if the host's recorder cannot be reached. It makes no socket file and opens no policy file:
the host hands both over, open, as the first thing on the decision channel (SCM_RIGHTS, unix(7)).
Bridges may connect meanwhile and are served once the host was told `ready`.
"""

import os
import sys
from _socket import (  # `socket` costs several times as much to load
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)

USAGE = "usage: proxy.py --decisions SOCKET --source URI [--users PROXY:SERVER] [--legacy] -- SERVER"
_INT = 4  # bytes of a descriptor number in a control message, cmsg(3)


class UsageError(Exception):
    """What is wrong with the arguments."""


def parse(argv: list[str]) -> tuple[dict[str, str], bool, list[str]]:
    """(options, legacy, server argv); UsageError."""
    if "--" not in argv:
        raise UsageError("no -- before the server's command")
    cut = argv.index("--")
    rest, server = iter(argv[:cut]), argv[cut + 1 :]
    options: dict[str, str] = {}
    legacy = False
    for word in rest:
        if word == "--legacy":
            legacy = True
        elif word in ("--decisions", "--source", "--users") and word not in options:
            options[word] = next(rest, "")
        else:
            raise UsageError(f"unknown or repeated argument {word!r}")
    for name in ("--decisions", "--source"):
        if not options.get(name):
            raise UsageError(f"{name} is missing or empty")
    if not server or not server[0]:
        raise UsageError("no server command after --")
    return options, legacy, server


def connect(path: str) -> tuple[socket, socket, int]:
    """(the decision channel, the listening MCP socket, the open policy); OSError."""
    host = socket(AF_UNIX, SOCK_STREAM)
    host.connect(path)
    data, ancillary, _, _ = host.recvmsg(1, CMSG_LEN(2 * _INT), MSG_CMSG_CLOEXEC)
    numbers = b"".join(part for level, kind, part in ancillary if (level, kind) == (SOL_SOCKET, SCM_RIGHTS))
    if not data or len(numbers) != 2 * _INT:
        raise OSError("the host handed over no listener and policy")
    listener, policy = (int.from_bytes(numbers[at : at + _INT], sys.byteorder) for at in (0, _INT))
    return host, socket(fileno=listener), policy


def main(argv: list[str]) -> int:
    try:
        options, legacy, command = parse(argv)
    except UsageError as error:
        return complain(f"{error}\n{USAGE}", 2)
    try:
        host, listener, policy_file = connect(options["--decisions"])
    except OSError as error:
        return complain(f"no recorder at {options['--decisions']}: {error.strerror or error}", 1)
    listener.setblocking(False)

    # -I takes the script's own folder off the path; last, so that it can shadow nothing.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from harness.policy.server import Server, Users

    users = None
    if "--users" in options:
        try:
            users = Users.parse(options["--users"])
            users.step_down()
        except (ValueError, OSError) as error:
            return complain(f"--users {options['--users']}: {error}", 2)

    from harness.policy.decisions import DecisionChannel
    from harness.policy.judge import RunRules
    from harness.policy.refusals import Budget
    from harness.policy.relay import Relay
    from harness.policy.rules import load_policy

    try:
        policy = load_policy(policy_file)
    except (ValueError, OSError) as error:
        return complain(f"the policy: {error}", 2)
    decisions = DecisionChannel(host, options["--source"])
    rules = RunRules(policy, Server(command, users), Budget(decisions), legacy=legacy)
    return Relay(listener, decisions, rules).run()


def complain(text: str, code: int) -> int:
    sys.stderr.write(f"assay-proxy: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
