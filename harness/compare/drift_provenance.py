"""Where a drift report comes from: what was declared, and what the archives say themselves."""

from harness import __version__
from harness.bundle.reader import Archive
from harness.compare.drift_options import DriftOptions
from harness.compare.members import document
from harness.contracts import (
    correlation,
    health,
    kernel_event,
    manifest,
    policy_event,
    run_event,
    sdk_event,
    surface,
)
from harness.contracts.companion import COMPANION_SCHEMAS, HOST, HostV1
from harness.contracts.health import LINUX
from harness.contracts.rules import sorted_unique
from harness.contracts.runtime_drift import (
    PROVENANCE_NON_CLAIMS,
    InputArchive,
    KernelFacts,
    Provenance,
    RenderMetadata,
    Workflow,
)

_SCHEMAS = {
    manifest.MANIFEST: manifest.SCHEMA,
    manifest.SURFACE: surface.SCHEMA,
    manifest.CORRELATION: correlation.SCHEMA,
    manifest.EVENTS: run_event.SCHEMA,
    manifest.KERNEL: kernel_event.SCHEMA,
    manifest.POLICY: policy_event.SCHEMA,
    manifest.SDK: sdk_event.SCHEMA,
    manifest.HEALTH: health.SCHEMA,
    manifest.COMPANION_MANIFEST: manifest.COMPANION_SCHEMA,
    **COMPANION_SCHEMAS,
}


def provenance(a: Archive, b: Archive, paths: tuple[str, str], options: DriftOptions) -> Provenance:
    """Facts of the host are taken from the companions when both archives agree on them."""
    left, right = _facts(a), _facts(b)

    def agreed(key: str) -> str | None:
        return left.get(key) if left.get(key) == right.get(key) else None

    release = agreed("kernel")
    return Provenance(
        assay_version=__version__,
        assay_commit=options.assay_commit,
        render_metadata=RenderMetadata(
            kind=options.render_kind,
            rendered_at=options.rendered_at,
            comparator_commit=options.comparator_commit,
            source_run_url=options.source_run_url,
            raw_captures_unchanged=options.raw_captures_unchanged,
        ),
        runner_schema_versions=sorted_unique(_SCHEMAS[name] for one in (a, b) for name in one.members),
        kernel=KernelFacts(os=LINUX if release else None, release=release, arch=agreed("machine")),
        ebpf_object_digest=agreed("program_sha256"),
        workflow=Workflow(url=options.workflow_url, runner_label=options.runner_label),
        input_archives=tuple(
            InputArchive(path=path, run_id=one.run_id, manifest_digest=one.identity)
            for path, one in zip(paths, (a, b), strict=True)
        ),
        non_claims=PROVENANCE_NON_CLAIMS,
    )


def _facts(archive: Archive) -> dict[str, str]:
    return document(archive, HOST, HostV1).facts if HOST in archive.members else {}
