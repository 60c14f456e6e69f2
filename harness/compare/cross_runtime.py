"""The cross-runtime diff A1 + B3 + C1 (contracts §6.2, docs/adr/0004-cross-runtime-a1-b3-c1.md).

Paths are normalised by a declared work folder and by nothing else; call ids are not compared; what
the SDKs call themselves is noted beside the diff.
"""

from pathlib import Path

from attrs import frozen

from harness.bundle.reader import Archive
from harness.compare.capability import ambiguities_of, failures_of, status_of, surface_diff
from harness.compare.members import content, document, failure, open_archive
from harness.compare.side import Side, side_of
from harness.contracts.canonical import JsonError, load_ndjson
from harness.contracts.capability_diff import UNBOUND, SurfaceDiff
from harness.contracts.companion import RUNSPEC, RunSpecDocV1
from harness.contracts.cross_runtime_diff import (
    FAILED_NOTE,
    GEMINI,
    NON_CLAIMS,
    NOTES,
    S5,
    V0_RUNTIMES,
    Canonicalization,
    CrossRuntimeDiff,
    CrossRuntimePreconditions,
    CrossRuntimeSchema,
    CrossRuntimeScope,
    NotCompared,
    SdkMetadata,
    SdkVersion,
)
from harness.contracts.manifest import SDK, SURFACE
from harness.contracts.sdk_event import SCHEMA as SDK_SCHEMA
from harness.contracts.surface import DIMENSIONS
from harness.errors import InputError, VerificationError

WORK = "<work>/"
WORKSPACE = "/workspace/"  # where every container of ours has its work folder
LITERAL_WORK = "a_path_begins_with_the_literal_<work>/"
_SHIMS = {"openai-agents": S5, "gemini-google-genai": GEMINI}


@frozen(kw_only=True)
class RuntimeSide:
    """One runtime's run: `prefix` is its work folder, absolute and ending in "/"."""

    side: Side
    runtime: str
    prefix: str
    sdk: SdkVersion

    def path(self, value: str) -> str:
        """A1: the declared prefix becomes <work>/, on the boundary that its last "/" is."""
        return canonical_path(value, self.prefix)


def runtime_side(path: Path, *, runtime: str | None = None, prefix: str | None = None) -> RuntimeSide:
    """An archive with its runtime and work folder; those not given are taken from its own runspec.

    InputError when they are neither given nor there, or the prefix is none; VerificationError as
    `load_side`, and for an SDK layer that does not name exactly one SDK.
    """
    archive = open_archive(path)
    side = side_of(archive)
    if prefix is not None:
        check_prefix(prefix)
    if runtime is not None and not runtime.strip():
        raise InputError("a runtime needs a name", place=str(path), hint="for instance s5_openai_agents")
    if runtime is None or prefix is None:
        if RUNSPEC not in archive.members:
            missing = "runtime" if runtime is None else "work folder"
            raise InputError(
                f"does not say which {missing} it had",
                place=str(path),
                hint="give --base-runtime and --base-prefix (--head-… for the other side)",
            )
        runtime = runtime or runtime_name(document(archive, RUNSPEC, RunSpecDocV1))
        prefix = prefix or WORKSPACE
    return RuntimeSide(side=side, runtime=runtime, prefix=prefix, sdk=_sdk(archive))


def runtime_name(spec: RunSpecDocV1) -> str:
    """The contract's name for the two runtimes it knows, else the fixture's with "_" for "-"."""
    return _SHIMS.get(spec.agent_shim) or spec.fixture.replace("-", "_")


def canonical_path(value: str, prefix: str) -> str:
    """Idempotent: what begins with <work>/ is not absolute, and so begins with no prefix."""
    return WORK + value[len(prefix) :] if value.startswith(prefix) else value


def check_prefix(prefix: str) -> None:
    """InputError for anything but an absolute folder that ends in "/"."""
    if not prefix.startswith("/") or not prefix.endswith("/"):
        raise InputError(
            f"{prefix!r} is no work folder", place="work-dir prefix", hint="begin and end it with '/'"
        )


def cross_runtime_diff(base: RuntimeSide, head: RuntimeSide) -> CrossRuntimeDiff:
    """v0 for the two runtimes of v0, else v1.

    InputError for equal runtimes or a bad prefix; VerificationError for bad tool_call_ids, and for
    an SDK's name or version inside a surface value: the diff would then tell of the SDK itself.
    """
    if base.runtime == head.runtime:
        raise InputError(
            f"both sides are runs of {base.runtime}",
            place="runtime",
            hint="compare them without --cross-runtime",
        )
    for one in (base, head):
        check_prefix(one.prefix)
    before, after = base.side.outcomes(), head.side.outcomes()
    surface = surface_diff(base.side, head.side, base.path, head.path)
    _check_leak(surface, base, head)
    failures = failures_of(base.side, head.side)
    failures += [
        f"{label} {LITERAL_WORK}"
        for label, one in (("base", base), ("head", head))
        if any(value.startswith(WORK) for value in one.side.surface.filesystem_paths)
    ]
    v0 = base.runtime in V0_RUNTIMES and head.runtime in V0_RUNTIMES
    return CrossRuntimeDiff(
        schema=CrossRuntimeSchema.V0 if v0 else CrossRuntimeSchema.V1,
        base_run_id=base.side.run_id,
        head_run_id=head.side.run_id,
        base_runtime=base.runtime,
        head_runtime=head.runtime,
        status=status_of(base.side, head.side, failures),
        preconditions=CrossRuntimePreconditions(
            base_health_clean=base.side.health_clean,
            head_health_clean=head.side.health_clean,
            base_correlation_clean=base.side.correlation_clean,
            head_correlation_clean=head.side.correlation_clean,
            stable_tool_call_ids_present=bool(before and after),
        ),
        scope=CrossRuntimeScope(),
        canonicalization=Canonicalization(),
        surface=surface,
        binding_ids=NotCompared(),
        policy_outcomes=NotCompared(),
        sdk_metadata=SdkMetadata(base=base.sdk, head=head.sdk),
        unbound=UNBOUND,
        non_claims=NON_CLAIMS,
        ambiguities=ambiguities_of(base.side, head.side),
        notes=(*NOTES, *(f"{FAILED_NOTE}: {reason}" for reason in failures)),
    )


def _sdk(archive: Archive) -> SdkVersion:
    """The one pair that the SDK layer names; lines of other schemas or without a pair do not count."""
    try:
        events = load_ndjson(content(archive, SDK), SDK)
    except JsonError as error:
        raise failure(archive, SDK, error.code, error.message) from None
    pairs = {
        _pair(event) for event in events if isinstance(event, dict) and event.get("schema") == SDK_SCHEMA
    }
    pairs.discard(None)
    if len(pairs) != 1:
        told = ", ".join(sorted(f"{pair[0]} {pair[1]}" for pair in pairs if pair)) or "none"
        raise failure(archive, SDK, "SdkMetadataAmbiguous", f"must name exactly one SDK and version: {told}")
    (name, version) = next(pair for pair in pairs if pair)
    return SdkVersion(sdk_name=name, sdk_version=version)


def _pair(event: dict[str, object]) -> tuple[str, str] | None:
    name, version = event.get("sdk_name"), event.get("sdk_version")
    if isinstance(name, str) and isinstance(version, str) and name.strip() and version.strip():
        return name, version
    return None


def _check_leak(surface: SurfaceDiff, base: RuntimeSide, head: RuntimeSide) -> None:
    """C1: SDK metadata is beside the diff, never part of a value in it."""
    told = sorted({base.sdk.sdk_name, base.sdk.sdk_version, head.sdk.sdk_name, head.sdk.sdk_version})
    for category in DIMENSIONS:
        diff = getattr(surface, category)
        for value in (*diff.added, *diff.removed, *diff.unchanged):
            for text in told:
                if text in value:
                    raise VerificationError(
                        "SdkMetadataLeak",
                        f"{value!r} holds {text!r}, which an SDK reports about itself",
                        place=f"{base.side.place} and {head.side.place}: {SURFACE} at /{category}",
                        hint="these runs cannot be compared across runtimes",
                    )
