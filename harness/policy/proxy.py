"""The policy proxy: process 1 of the tools container, between the agent's bridges and MCP servers.

    python3.11 -I -S -B proxy.py --policy FILE --listen SOCKET --decisions SOCKET --source URI
               [--legacy] -- SERVER [ARGUMENT...]

Ends with 0 when the host closes the decision channel, or on SIGTERM; 2 for bad arguments or a bad
policy, 1 if the host's recorder cannot be reached. Listens before it loads the rest, which takes
longer: bridges may connect meanwhile and are served once the host was told `ready`.
"""

import os
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket  # `socket` costs several times as much to load

USAGE = "usage: proxy.py --policy FILE --listen SOCKET --decisions SOCKET --source URI [--legacy] -- SERVER"
BACKLOG = 64


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
        elif word in ("--policy", "--listen", "--decisions", "--source") and word not in options:
            options[word] = next(rest, "")
        else:
            raise UsageError(f"unknown or repeated argument {word!r}")
    for name in ("--policy", "--listen", "--decisions", "--source"):
        if not options.get(name):
            raise UsageError(f"{name} is missing or empty")
    if not server or not server[0]:
        raise UsageError("no server command after --")
    return options, legacy, server


def listen(path: str) -> socket:
    """A listening socket file that every user may connect to; OSError."""
    listener = socket(AF_UNIX, SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def main(argv: list[str]) -> int:
    try:
        options, legacy, server = parse(argv)
    except UsageError as error:
        return complain(f"{error}\n{USAGE}", 2)
    try:
        listener = listen(options["--listen"])
    except OSError as error:
        return complain(f"cannot listen at {options['--listen']}: {error.strerror or error}", 2)

    # -I takes the script's own folder off the path; last, so that it can shadow nothing.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from harness.policy.decisions import DecisionChannel
    from harness.policy.judge import RunRules
    from harness.policy.relay import Relay
    from harness.policy.rules import load_policy

    try:
        policy = load_policy(options["--policy"])
    except (ValueError, OSError) as error:
        return complain(f"policy {options['--policy']}: {error}", 2)
    try:
        host = socket(AF_UNIX, SOCK_STREAM)
        host.connect(options["--decisions"])
    except OSError as error:
        return complain(f"no recorder at {options['--decisions']}: {error.strerror or error}", 1)
    decisions = DecisionChannel(host, options["--source"])
    return Relay(listener, decisions, RunRules(policy, server, legacy=legacy)).run()


def complain(text: str, code: int) -> int:
    sys.stderr.write(f"assay-proxy: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
