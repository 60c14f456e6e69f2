"""A small but whole run: the golden S5 documents, the layers they follow from, and a companion."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundle.layout import gzip_bytes, tar_bytes
from harness.bundle.reader import read_archive
from harness.bundle.writer import write_archive
from harness.contracts import companion, manifest
from harness.contracts.canonical import load_json, ndjson, sha256_of, to_bytes
from harness.contracts.companion import (
    AccountingV1,
    AttributionV1,
    CapabilitySurfaceV1,
    CaptureCounts,
    ClassCounts,
    HostV1,
    Identity,
    KernelEventV1,
    KindCounts,
    NetworkSealV1,
    ProcessTreeV1,
    RunSpecDocV1,
)
from harness.contracts.converter import unstructure
from harness.contracts.kernel_event import open_event
from harness.contracts.run_event import RunFinished, RunStarted

GOLDEN = Path(__file__).parents[2] / "golden" / "s5"
RUN_ID = "run_openai_agents_kernel_policy_determinism"

Members = dict[str, bytes]
Forge = Callable[[Members], Path]


def document(model: object) -> bytes:
    return to_bytes(unstructure(model))


def v0_members() -> Members:
    paths = load_json((GOLDEN / manifest.SURFACE).read_bytes(), "golden")["filesystem_paths"]
    kernel = [
        open_event(
            run_id=RUN_ID, seq=seq, pid=70 + seq, value=path, flags=0, mode=0, resolve=0, return_value=3
        )
        for seq, path in enumerate(paths)
    ]
    events = (
        RunStarted(run_id=RUN_ID, agent_shim="openai-agents", command=("node", "a.js"), env_keys=("A",)),
        RunFinished(run_id=RUN_ID, exit_code=0, success=True, window_elapsed_ms=812),
    )
    return {
        manifest.SURFACE: (GOLDEN / manifest.SURFACE).read_bytes(),
        manifest.CORRELATION: (GOLDEN / manifest.CORRELATION).read_bytes(),
        manifest.EVENTS: ndjson(unstructure(event) for event in events),
        manifest.KERNEL: ndjson(unstructure(event) for event in kernel),
        manifest.POLICY: (GOLDEN / "policy.ndjson").read_bytes(),
        manifest.SDK: (GOLDEN / "sdk.ndjson").read_bytes(),
        manifest.HEALTH: (GOLDEN / manifest.HEALTH).read_bytes(),
    }


def accounting(**changes: object) -> AccountingV1:
    kinds = {
        "open": KindCounts(seen=2, submitted=2, dropped=0, oversized=0, fault=0, truncated=0, unreadable=0)
    }
    capture = CaptureCounts(
        kinds=kinds,
        received=2,
        received_bytes=400,
        decoded=2,
        decode_errors=0,
        recursion_misses=0,
        sentinels_expected=2,
        sentinels_seen=2,
        boundaries=("subject", "tools"),
        ring_bytes=4096,
        ring_high_water=400,
        freezes=0,
        frozen_ns=0,
    )
    fields = {
        "run_id": RUN_ID,
        "clean": True,
        "unclean": (),
        "missing_witnesses": (),
        "capture": capture,
        "records": ClassCounts(classes={"evidence": 2, "telemetry": 0}, total=2),
        "identities": (
            Identity(name="received", left=2, right=2, holds=True),
            Identity(name="ring_high_water", left=400, right=4096, holds=True),
        ),
        "unlabelled": 0,
        "io_uring_refused": 0,
        "idless_calls": 0,
        "volatile": {},
        "survivors": 0,
        "timed_out": False,
        "problems": (),
    }
    return AccountingV1(**fields | changes)  # type: ignore[arg-type]


def companion_members() -> Members:
    lines = [
        KernelEventV1(
            run_id=RUN_ID,
            seq=0,
            role="tools",
            process="tools.0.1",
            operation="openat",
            outcome="ok",
            event_class="evidence",
            path="/workspace/ü",
        )
    ]
    attribution = AttributionV1(run_id=RUN_ID, calls=(), ambiguous=(), unattributed=())
    return {
        companion.ACCOUNTING: document(accounting()),
        companion.ATTRIBUTION: document(attribution),
        companion.HOST: document(HostV1(run_id=RUN_ID, facts={"kernel": "6.1"})),
        companion.KERNEL: ndjson(unstructure(line) for line in lines),
        companion.NETWORK: document(NetworkSealV1(run_id=RUN_ID, seals=())),
        companion.PROCESSES: document(ProcessTreeV1(run_id=RUN_ID, processes=())),
        companion.RUNSPEC: document(
            RunSpecDocV1(
                run_id=RUN_ID,
                agent_shim="openai-agents",
                command=("node",),
                env={},
                fixture="openai-agents",
                image="i",
                image_id="sha256:0",
                runtime_roots=("/usr",),
                deadline_s=60.0,
                witnesses=("kernel",),
                workspace="ro",
                plumbing={},
                inputs={},
            )
        ),
        companion.SURFACE: document(
            CapabilitySurfaceV1(run_id=RUN_ID, paths=(), network=(), execs=(), tools=(), telemetry=())
        ),
    }


def remake_manifests(members: Members) -> Members:
    """What a forger does: both manifests made to fit whatever the members now are."""
    v0 = {name: data for name, data in members.items() if name in manifest.V0_MEMBERS[1:]}
    extra = {name: data for name, data in members.items() if name in companion.COMPANION_SCHEMAS}
    head = document(manifest.ArchiveManifest(run_id=RUN_ID, files=manifest.describe(v0)))
    made = {manifest.MANIFEST: head, **v0}
    if extra:
        made[manifest.COMPANION_MANIFEST] = document(
            manifest.CompanionManifest(
                run_id=RUN_ID, v0_manifest_sha256=sha256_of(head), files=manifest.describe(extra)
            )
        )
        made |= extra
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "run.tar.gz"
    write_archive(path, v0_members(), companion_members(), RUN_ID)
    return path


@pytest.fixture
def members(archive: Path) -> Members:
    return dict(read_archive(archive).members)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    """Write members, in the order given, with whatever they hold, as a well-formed tar.gz."""

    def write(members: Members) -> Path:
        path = tmp_path / "forged.tar.gz"
        path.write_bytes(gzip_bytes(tar_bytes(members.items())))
        return path

    return write
