"""From counted facts to observation-health.json (contracts §3.5, §3.7)."""

from harness.contracts.health import (
    CONTRACT_ONLY_NOTE,
    LINUX,
    Correlation,
    KernelLayer,
    ObservationHealth,
    PolicyLayer,
    SdkLayer,
    kernel_downgraded_note,
    kernel_note,
    losses_note,
    policy_note,
    sdk_note,
    unclean_note,
)

RING_DROPS = "ring_drops"
OTHER_LOSSES = "other_losses"


def derive_health(
    run_id: str,
    *,
    kernel_events: int,
    kernel_asked: bool,
    ring_drops: int,
    other_losses: int,
    unclean: tuple[str, ...],
    policy_events: int,
    sdk_events: int,
    sdk_tool_calls: int,
    platform: str = LINUX,
) -> ObservationHealth:
    """The health of one run; the same facts always give the same bytes.

    kernel_events  retained events, the lines of kernel.ndjson
    other_losses   records lost after the ring: not decodable, wrong size
    unclean        codes of whatever else breaks the promise of completeness
    """
    captured = kernel_asked and platform == LINUX
    # The contract reports no drops on a run that is not clean; the codes keep them visible.
    losses = ((RING_DROPS, ring_drops), (OTHER_LOSSES, other_losses))
    codes = (*unclean, *(code for code, count in losses if count)) if unclean else ()
    clean = captured and not unclean
    correlation = Correlation.CLEAN if clean else Correlation.PARTIAL
    lost = ring_drops + other_losses

    kernel_layer = KernelLayer.ABSENT
    if clean:
        kernel_layer = KernelLayer.PARTIAL if lost else KernelLayer.COMPLETE

    notes = []
    if not captured:
        notes.append(CONTRACT_ONLY_NOTE)
    elif clean:
        notes.append(kernel_note(kernel_events, ring_drops))
    else:
        notes.append(kernel_downgraded_note(kernel_events, correlation))
    if policy_events:
        notes.append(policy_note(policy_events))
    if sdk_events:
        notes.append(sdk_note(sdk_events, sdk_tool_calls))
    if codes:
        notes.append(unclean_note(codes))
    elif clean and other_losses:
        notes.append(losses_note(other_losses))
    return ObservationHealth(
        run_id=run_id,
        platform=platform,
        kernel_layer=kernel_layer,
        ringbuf_drops=ring_drops if clean else 0,
        policy_layer=PolicyLayer.PRESENT if policy_events else PolicyLayer.ABSENT,
        sdk_layer=SdkLayer.SELF_REPORTED if sdk_events else SdkLayer.ABSENT,
        cgroup_correlation=correlation,
        notes=tuple(notes),
    )
