"""An agent that talks to itself over loopback: unclean, unless that was declared before the run."""

import json

import pytest
from attrs import evolve

from harness.bench import Bench
from harness.engine.locked_images import image_for_run
from harness.errors import EvidenceError
from harness.plan import FIXTURES, Plan, plan_image
from harness.run import measure

pytestmark = pytest.mark.linux

TALK = (
    "import socket;server=socket.create_server(('127.0.0.1',18629));"
    "client=socket.create_connection(('127.0.0.1',18629));client.sendall(b'x');"
    "assert server.accept()[0].recv(1)"
)


@pytest.fixture
def plan(bench: Bench) -> Plan:
    image = image_for_run(
        bench.client, FIXTURES / "kernel-only", state=bench.state, progress=print, unlocked=True
    )
    return plan_image(
        ("/usr/bin/python3.11", "-I", "-S", "-c", TALK),
        image,
        run_id=None,
        inputs=None,
        deadline_s=30,
    )


def test_packets_that_nobody_declared_make_the_run_unclean(bench: Bench, plan: Plan) -> None:
    measured = measure(bench, plan)
    assert measured.observation.subject.success
    assert measured.assembled.unclean == ("network_packets:subject", "network_seal:subject")
    with pytest.raises(EvidenceError):
        measured.verdict()


def test_declared_loopback_is_clean_and_shown(bench: Bench, plan: Plan) -> None:
    measured = measure(bench, evolve(plan, network="loopback"))
    measured.verdict()
    companion = measured.assembled.companion
    (seal,) = json.loads(companion["companion/network.json"])["seals"]
    assert seal["declared"] == "loopback"
    assert seal["packets"] > 0
    assert json.loads(companion["companion/runspec.json"])["network"] == "loopback"
    assert measured.assembled.surface.network_endpoints == ("127.0.0.1:18629",)
