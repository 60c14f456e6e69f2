"""Sides of a comparison: drawn at random, by hand, and as archives on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import strategies as st

from harness.bundle.reader import read_archive
from harness.compare.side import Side
from harness.contracts.canonical import load_json, sha256_of, to_bytes
from harness.contracts.companion import POLICY
from harness.contracts.correlation import Binding, CorrelationReport
from harness.contracts.health import Correlation, KernelLayer, ObservationHealth, PolicyLayer, SdkLayer
from harness.contracts.manifest import COMPANION_MANIFEST, MANIFEST
from harness.contracts.rules import sorted_unique
from harness.contracts.surface import CapabilitySurface

DIFFS = Path(__file__).parents[2] / "golden" / "diff"
S5 = DIFFS / "s5.tar.gz"
HIDDEN = DIFFS / "hidden-write.tar.gz"
GEMINI = DIFFS / "gemini.tar.gz"

HEALTH = ObservationHealth(
    run_id="run_1",
    platform="linux",
    kernel_layer=KernelLayer.COMPLETE,
    ringbuf_drops=0,
    policy_layer=PolicyLayer.PRESENT,
    sdk_layer=SdkLayer.SELF_REPORTED,
    cgroup_correlation=Correlation.CLEAN,
    notes=(),
)


def make_side(
    run_id: str = "run_1",
    *,
    paths: tuple[str, ...] = (),
    endpoints: tuple[str, ...] = (),
    execs: tuple[str, ...] = (),
    tools: tuple[str, ...] = (),
    decisions: tuple[str, ...] = (),
    calls: dict[str, str | None] | None = None,
    status: Correlation = Correlation.CLEAN,
    ambiguities: tuple[str, ...] = (),
    **health: Any,
) -> Side:
    """A clean side with one allowed call tc_1, but for what is given."""
    calls = {"tc_1": "allow"} if calls is None else calls
    return Side(
        place=run_id,
        health=evolve(HEALTH, run_id=run_id, **health),
        surface=CapabilitySurface(
            run_id=run_id,
            filesystem_paths=sorted_unique(paths),
            network_endpoints=sorted_unique(endpoints),
            process_execs=sorted_unique(execs),
            mcp_tools=sorted_unique(tools),
            policy_decisions=sorted_unique(decisions),
        ),
        correlation=CorrelationReport(
            run_id=run_id,
            status=status,
            bindings=tuple(
                Binding(tool_call_id=name, policy_decision=decision, kernel_event_count=2)
                for name, decision in calls.items()
            ),
            ambiguities=ambiguities,
        ),
    )


# Few values, so that sides share some; astral, accented and escaped ones, so that order is seen.
VALUES = st.sets(st.sampled_from(["/a", "/b", "/é", "/￿", "/😀", '/"q"\n', "/b/c", "<work>/x"]), max_size=5)
SIDES = st.builds(
    make_side,
    st.sampled_from(["run_1", "run_2"]),
    paths=VALUES.map(tuple),
    endpoints=VALUES.map(tuple),
    execs=VALUES.map(tuple),
    tools=VALUES.map(tuple),
    decisions=VALUES.map(tuple),
    calls=st.dictionaries(
        st.sampled_from(["tc_1", "tc_2", "é", "😀"]), st.sampled_from(["allow", "deny", None])
    ),
    status=st.sampled_from(Correlation),
    ambiguities=st.sampled_from([(), ("x",), ("y", "x")]),
    kernel_layer=st.sampled_from(KernelLayer),
    ringbuf_drops=st.sampled_from([0, 0, 3]),
    policy_layer=st.sampled_from(PolicyLayer),
    cgroup_correlation=st.sampled_from(Correlation),
)

Change = Callable[[dict[str, bytes]], None]
Extract = Callable[..., Path]


def forged(members: dict[str, bytes]) -> None:
    """Both manifests made to fit whatever the members are: only the members' own rules are left."""
    head = load_json(members[MANIFEST], MANIFEST)
    _describe(head, members)
    members[MANIFEST] = to_bytes(head)
    if COMPANION_MANIFEST in members:
        companion = load_json(members[COMPANION_MANIFEST], COMPANION_MANIFEST)
        if POLICY in members:  # in an archive of before by `derive` alone
            companion["files"][POLICY] = {"path": POLICY}
        _describe(companion, members)
        companion["files"] = dict(sorted(companion["files"].items()))
        companion["v0_manifest_sha256"] = sha256_of(members[MANIFEST])
        members[COMPANION_MANIFEST] = to_bytes(companion)


def _describe(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    for name, file in manifest["files"].items():
        if name in members:
            file |= {"sha256": sha256_of(members[name]), "bytes": len(members[name])}


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    """extract(archive, change, forge=True): the folder of an archive whose members were changed."""

    def write(archive: Path, change: Change | None = None, *, forge: bool = True) -> Path:
        members = dict(read_archive(archive).members)
        if change:
            change(members)
        if forge:
            forged(members)
        folder = tmp_path / "extracted"
        if folder.exists():
            shutil.rmtree(folder)
        for name, data in members.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    return write
