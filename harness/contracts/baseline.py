"""assay.runner.baseline.v1: an accepted surface, kept under version control and read by people."""

from collections.abc import Mapping

from attrs import frozen

from harness.contracts.converter import NonEmpty, constant
from harness.contracts.difference import Contract

SCHEMA = "assay.runner.baseline.v1"

# category -> name -> what is done to it, by whom ("write by subject") -> "done" or "attempted".
# v0 knows names only: then the last table is empty.
Capabilities = Mapping[str, Mapping[str, Mapping[str, str]]]


@frozen(kw_only=True)
class Baseline:
    """Nothing in it differs between two runs that touch the same: no run id, digest or time.

    contract  which surface it was made of; a v1 baseline is compared with v1 surfaces only
    """

    schema: str = constant(SCHEMA)
    fixture: NonEmpty
    contract: Contract
    capabilities: Capabilities
