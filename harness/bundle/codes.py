"""Every code of `verify`, and the stages that give it (vocabulary of contracts §1.7 where it fits)."""

from types import MappingProxyType

from attrs import frozen


@frozen
class Code:
    """`stages` as in harness.bundle.verify.STAGES."""

    stages: tuple[str, ...]
    text: str


CODES = MappingProxyType(
    {
        "IntegrityIo": Code(("bounds",), "it cannot be read"),
        "IntegrityGzip": Code(("bounds",), "no single gzip member with the fixed header, or damaged, or cut"),
        "IntegrityZipBomb": Code(("bounds",), "unpacks to very many times its size"),
        "LimitBundleBytes": Code(("bounds",), "more than 100 MiB packed"),
        "LimitDecodeBytes": Code(("bounds",), "more than 1 GiB unpacked"),
        "LimitFileSize": Code(("bounds",), "a member larger than 32 MiB, 500 MiB for lines"),
        "LimitMembers": Code(("bounds",), "more members than any archive has"),
        "SecurityAbsolutePath": Code(("bounds",), "a member's name is an absolute path"),
        "SecurityPathTraversal": Code(("bounds",), "a member's name leads out of the archive"),
        "IntegrityTar": Code(("structure",), "a header, padding or end that is not as fixed"),
        "ContractMissingManifest": Code(
            ("structure", "manifest"), "manifest.json is not first, or companion members have no manifest"
        ),
        "ContractMissingFile": Code(
            ("structure", "manifest"), "a member, or its entry in a manifest, is missing"
        ),
        "ContractUnexpectedFile": Code(
            ("structure", "manifest"), "a member that is not known, or that no manifest lists"
        ),
        "ContractDuplicateFile": Code(("structure",), "a member is there twice"),
        "ContractFileOrder": Code(("structure", "manifest"), "members or entries in another order"),
        "IntegrityFileSizeMismatch": Code(("manifest",), "a member has another size than listed"),
        "IntegrityManifestHash": Code(
            ("digests",), "a member has another digest than listed, or a companion is of another archive"
        ),
        "ContractSchemaVersion": Code(("manifest", "contents"), "a document of another schema"),
        "ContractInvalidJson": Code(
            ("manifest", "contents"), "not JSON, not of its schema, or not in canonical bytes"
        ),
        "ContractInvalidEvent": Code(
            ("contents",), "a document or line that breaks a rule of its own contract"
        ),
        "LimitJsonDepth": Code(("manifest", "contents"), "nested deeper than 64 levels"),
        "LimitJsonNodes": Code(("manifest", "contents"), "more than two million values in one document"),
        "LimitLineBytes": Code(("contents",), "a line longer than 1 MiB"),
        "LimitTotalEvents": Code(
            ("contents",), "more than a million lines in a kernel layer, 100,000 in another"
        ),
        "LimitDistinctLines": Code(("contents",), "more than 500,000 distinct facts in a kernel layer"),
        "ContractRunIdMismatch": Code(("run_ids",), "a member or line of another run"),
        "ContractSequenceStart": Code(("sequence",), "lines are not numbered from 0"),
        "ContractSequenceGap": Code(("sequence",), "a number is left out, or there twice"),
        "ContractLineOrder": Code(("sequence",), "the companion's kernel lines are no sorted set"),
        "ContractSurfaceMismatch": Code(("meaning",), "a surface that does not follow from the layers"),
        "ContractCorrelationMismatch": Code(("meaning",), "a report that does not follow from the layers"),
        "ContractHealthMismatch": Code(("meaning",), "health that layers and books do not bear out"),
        "ContractAccountingMismatch": Code(("meaning",), "books that do not add up, or hide a reason"),
        "ContractKernelLineMismatch": Code(
            ("meaning",), "a kernel line in unknown words, or of another class than its operation's"
        ),
        "ContractKernelLayerMismatch": Code(("meaning",), "the two kernel layers say different things"),
        "ContractProcessMismatch": Code(("meaning",), "a process tree that the kernel lines do not bear out"),
        "ContractAttributionMismatch": Code(
            ("meaning",), "operations that are attributed to nobody, or as no call's words allow"
        ),
        "ContractRunEventMismatch": Code(
            ("meaning",), "lifecycle lines that contradict the run spec, the end or themselves"
        ),
        "ContractNetworkMismatch": Code(
            ("meaning",), "seals that are not of this run's roles, or not declared so"
        ),
        "ContractRunSpecMismatch": Code(("meaning",), "a run spec that contradicts itself"),
        "ContractPolicyMismatch": Code(
            ("meaning",), "a decision whose source is of another run, or proxy events that the rest denies"
        ),
    }
)
