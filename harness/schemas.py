"""Every schema of schemas/: `python -m harness.schemas --write` makes them, `--check` compares them."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.contracts import (
    attestation,
    baseline,
    capability_diff,
    claims,
    companion,
    correlation,
    coverage,
    cross_runtime_diff,
    difference,
    fidelity,
    gate_summary,
    health,
    kernel_event,
    manifest,
    policy_event,
    policy_file,
    probe_report,
    proof_pack,
    replay_kit,
    run_event,
    runtime_drift,
    sdk_event,
    surface,
)
from harness.contracts.pretty import pretty_bytes
from harness.contracts.schema import SchemaFile, json_schema
from harness.contracts.schema_rules import MODEL_RULES, has, when
from harness.engine import image_lock, recipe
from harness.errors import AssayError, FindingError
from harness.spec import (
    FIXTURE_SCHEMA,
    ID_SOURCES,
    NETWORKS,
    VOLATILE,
    WITNESSES,
    FixtureFile,
    ScenarioSpec,
    SubjectSpec,
    ToolsSpec,
)

FOLDER = Path(__file__).resolve().parents[1] / "schemas"

_BELOW_THE_FOLDER = r"^(?!/)(?!(?:[^/]*/)*\.\.(?:/|(?![\s\S])))[\s\S]"
# What load_fixture and load_recipe ask for beyond the models.
_SPEC_RULES: dict[type, tuple[dict[str, Any], ...]] = {
    FixtureFile: (
        {
            "properties": {
                "schema": {"const": FIXTURE_SCHEMA},
                "witnesses": {"items": {"enum": list(WITNESSES)}},
                "network": {"enum": list(NETWORKS)},
                "volatile": {"items": {"pattern": VOLATILE}},
            }
        },
        when(has("witnesses", contains={"const": "sdk"}), has("id_source", enum=list(ID_SOURCES))),
        when(has("witnesses", contains={"const": "policy"}), has("tools", type="object")),
    ),
    ScenarioSpec: ({"properties": {"name": {"pattern": r"^[A-Za-z0-9_-]*$(?!\n)"}}},),
    SubjectSpec: ({"properties": {"command": {"minItems": 1}, "deadline_s": {"exclusiveMinimum": 0}}},),
    ToolsSpec: ({"properties": {"server": {"minItems": 1}, "workspace": {"enum": ["ro", "rw"]}}},),
    recipe.AppSpec: (
        {
            "properties": {
                "files": {"items": {"pattern": _BELOW_THE_FOLDER}},
                "npm": {"pattern": _BELOW_THE_FOLDER},
                "pip": {"pattern": _BELOW_THE_FOLDER},
            }
        },
    ),
    recipe.ImageFile: (
        {
            "properties": {
                "name": {"pattern": f"^(?:{recipe.NAME.pattern})" + r"$(?!\n)"},
                "base": {"enum": list(recipe.BASES)},
                "runtime_roots": {"items": {"pattern": "^/"}},
            }
        },
    ),
}

_V0: tuple[tuple[str, type], ...] = (
    (manifest.SCHEMA, manifest.ArchiveManifest),
    (surface.SCHEMA, surface.CapabilitySurface),
    (correlation.SCHEMA, correlation.CorrelationReport),
    (kernel_event.SCHEMA, kernel_event.KernelEvent),
    (policy_event.SCHEMA, policy_event.PolicyEvent),
    (sdk_event.SCHEMA, sdk_event.SdkEvent),
    (health.SCHEMA, health.ObservationHealth),
)
_COMPANION = (
    (manifest.COMPANION_SCHEMA, manifest.CompanionManifest),
    *((id_, companion.COMPANION_MODELS[member]) for member, id_ in companion.COMPANION_SCHEMAS.items()),
)
_COMPARE: tuple[tuple[str, type], ...] = (
    (capability_diff.SCHEMA, capability_diff.CapabilityDiff),
    (runtime_drift.SCHEMA, runtime_drift.DriftReport),
    (runtime_drift.ANNOTATION_SCHEMA, runtime_drift.DriftAnnotation),
    (claims.SCHEMA, claims.ClaimsReport),
    (fidelity.SCHEMA, fidelity.FidelityVerdict),
    (fidelity.PARITY_SCHEMA, fidelity.ClaimSupportParity),
    (coverage.SCHEMA, coverage.CoverageDescriptor),
)
_DECLARED: tuple[tuple[str, type], ...] = (
    (FIXTURE_SCHEMA, FixtureFile),
    ("assay.runner.image.v1", recipe.ImageFile),
    ("assay.runner.image_lock.v1", image_lock.ImageLock),
    ("assay.runner.base_image.v1", recipe.BaseSpec),
    ("assay.runner.deb_lock.v1", recipe.DebLock),
    (policy_file.SCHEMA, policy_file.PolicyFile),
    (gate_summary.SCHEMA, gate_summary.GateSummary),
    (probe_report.SCHEMA, probe_report.ProbeReport),
    (proof_pack.SCHEMA, proof_pack.ProofPack),
    (proof_pack.GATE_SOURCE_SCHEMA, proof_pack.GateSource),
    (proof_pack.EBPF_SCHEMA, proof_pack.EbpfProvenance),
    (difference.SCHEMA, difference.DifferenceReport),
    (baseline.SCHEMA, baseline.Baseline),
    (attestation.HEALTH_SCHEMA, attestation.AttestedHealth),
    (attestation.STATEMENT_SCHEMA, attestation.RuntimeTraceStatement),
    (replay_kit.SCHEMA, replay_kit.ReplayKit),
    (replay_kit.RESULT_SCHEMA, replay_kit.ReplayResult),
)

FILES: tuple[SchemaFile, ...] = (
    SchemaFile(run_event.SCHEMA, (run_event.RunStarted, run_event.RunFinished)),
    *(
        SchemaFile(id_, (cross_runtime_diff.CrossRuntimeDiff,), ({"properties": {"schema": {"const": id_}}},))
        for id_ in (cross_runtime_diff.SCHEMA_V0, cross_runtime_diff.SCHEMA_V1)
    ),
    *(SchemaFile(id_, (model,)) for id_, model in (*_V0, *_COMPANION, *_COMPARE, *_DECLARED)),
)


def documents() -> dict[str, bytes]:
    """File name -> bytes of every schema, by name."""
    rules = MODEL_RULES | _SPEC_RULES
    return {
        file.name: pretty_bytes(json_schema(file, rules)) for file in sorted(FILES, key=lambda file: file.id)
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of files that are missing, differ, or have no model."""
    wanted = documents()
    found = {path.name: path.read_bytes() for path in folder.glob("*.schema.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> None:
    """Make the folder say what the models say."""
    folder.mkdir(exist_ok=True)
    for name in stale(folder):
        (folder / name).unlink(missing_ok=True)
    for name, data in documents().items():
        (folder / name).write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.schemas", description=__doc__, allow_abbrev=False
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        write()
    if names := stale():
        raise FindingError(
            f"not what the models say: {', '.join(names)}",
            place=FOLDER.name,
            hint="python -m harness.schemas --write",
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AssayError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
