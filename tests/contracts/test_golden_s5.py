"""The models reproduce the artifacts of real measured runs byte for byte (contracts §2.8)."""

from pathlib import Path

import pytest

from harness.contracts.canonical import load_json, load_ndjson, ndjson, sha256_of, to_bytes
from harness.contracts.converter import parse, unstructure
from harness.contracts.correlation import CorrelationReport
from harness.contracts.health import ObservationHealth
from harness.contracts.kernel_event import OPENAT, KernelEvent, other_event
from harness.contracts.policy_event import PolicyEvent
from harness.contracts.sdk_event import SdkEvent, SdkEventType
from harness.contracts.surface import CapabilitySurface
from harness.evidence.correlate import correlate, surface
from harness.evidence.health import derive_health

GOLDEN = Path(__file__).parents[1] / "golden" / "s5"
CALL = "tc_runner_policy_001"

DOCUMENTS: tuple[tuple[str, type, str], ...] = (
    (
        "capability-surface.json",
        CapabilitySurface,
        "ca04dc8821ed46192be5316b31f3c08238aad0e5c68b1c02108d228c4a475f19",
    ),
    (
        "correlation-report.json",
        CorrelationReport,
        "028c901829e03fc44490eb14a1d5119be135fbed2b9a3704d2586764f1c8812e",
    ),
    (
        "observation-health.json",
        ObservationHealth,
        "dbb934767e3ddadbed9ef911fd2dc9e68e37eb9ff3c347de776797d5f53e622c",
    ),
)


@pytest.mark.parametrize(("name", "cls", "digest"), DOCUMENTS)
def test_read_then_write_gives_the_same_bytes(name: str, cls: type, digest: str) -> None:
    data = (GOLDEN / name).read_bytes()
    assert sha256_of(data) == f"sha256:{digest}"
    assert to_bytes(unstructure(parse(cls, load_json(data, name)))) == data


@pytest.mark.parametrize(("name", "cls"), [("sdk.ndjson", SdkEvent), ("policy.ndjson", PolicyEvent)])
def test_lines_read_then_written_give_the_same_bytes(name: str, cls: type) -> None:
    data = (GOLDEN / name).read_bytes()
    models: list[object] = [parse(cls, document) for document in load_ndjson(data, name)]
    assert models
    assert ndjson(unstructure(model) for model in models) == data


def run(run_id: str, work: str, names: tuple[str, ...]) -> tuple[bytes, bytes, bytes]:
    """The three documents of a run, derived from its layers."""
    kernel: list[KernelEvent] = [
        other_event(run_id=run_id, seq=seq, pid=4242, event_type=OPENAT, value=work + name)
        for seq, name in enumerate(names)
    ]
    policy = [
        PolicyEvent(
            run_id=run_id,
            seq=0,
            source=f"assay://runner-spike/{run_id}",
            tool_call_id=CALL,
            tool="read_file",
            decision="allow",
        )
    ]
    sdk = [
        SdkEvent(
            run_id=run_id,
            seq=0,
            event_type=SdkEventType.TOOL_CALL_STARTED,
            source="openai-agents-fixture",
            tool_call_id=CALL,
            tool="read_file",
        )
    ]
    health = derive_health(
        run_id,
        kernel_events=len(kernel),
        kernel_asked=True,
        ring_drops=0,
        other_losses=0,
        unclean=(),
        policy_events=1,
        sdk_events=3,
        sdk_tool_calls=1,
    )
    documents = (surface(run_id, kernel, policy), correlate(run_id, policy, len(kernel), sdk), health)
    first, second, third = (to_bytes(unstructure(document)) for document in documents)
    return first, second, third


def test_the_baseline_run_follows_from_its_layers() -> None:
    made = run(
        "run_openai_agents_kernel_policy_determinism",
        "/tmp/assay-runner-proof-26571739019/gates/openai-agents-kernel-policy/work/",
        ("policy-input.txt", "openai-agents-input.txt"),
    )
    assert made == tuple((GOLDEN / name).read_bytes() for name, _, _ in DOCUMENTS)


def test_the_hidden_write_run_follows_from_its_layers() -> None:
    made = run(
        "run_openai_agents_hidden_write_determinism",
        "/tmp/assay-runner-proof-26620643517/gates/openai-agents-hidden-write/work/",
        ("policy-input.txt", "openai-agents-input.txt", "hidden-write-output.txt"),
    )
    digests = [sha256_of(data)[7:15] for data in made]
    assert digests == ["bff9e34f", "c89034f5", "c0829eb2"]
