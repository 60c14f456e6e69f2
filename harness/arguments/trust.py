"""What may be believed of an archive: verify, attest, oci."""

import argparse
from pathlib import Path

from harness.arguments import Commands, print_json
from harness.errors import InputError, VerificationError
from harness.present.progress import Progress


def add(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="check an archive offline")
    verify.add_argument("archive", type=Path, nargs="+")
    verify.add_argument(
        "--key",
        action="append",
        metavar="KEY",
        help="public key (PEM file or env:NAME): the archive must also be attested by it; may be repeated",
    )
    verify.add_argument(
        "--attestation", type=Path, metavar="FILE", help="with --key; default: ARCHIVE.intoto.jsonl"
    )
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)
    _add_attest(commands)
    _add_oci(commands)


def _add_attest(commands: Commands) -> None:
    attest = commands.add_parser("attest", help="sign what an archive says, as an in-toto attestation")
    attest.add_argument("archive", type=Path)
    attest.add_argument(
        "--key", required=True, metavar="KEY", help="private Ed25519 key: PEM file (PKCS8) or env:NAME"
    )
    attest.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: ARCHIVE.intoto.jsonl")
    attest.set_defaults(run=_attest)


def _add_oci(commands: Commands) -> None:
    oci = commands.add_parser("oci", help="archives and attestations in an OCI layout")
    actions = oci.add_subparsers(dest="action", required=True, metavar="ACTION")
    push = actions.add_parser("push", help="add an archive, and its attestation, to a layout")
    push.add_argument("archive", type=Path)
    push.add_argument("layout", type=Path, help="a folder; made if it is not there")
    push.add_argument("--tag", help="default: the run id")
    push.add_argument(
        "--attestation", type=Path, metavar="FILE", help="default: ARCHIVE.intoto.jsonl, if it is there"
    )
    push.set_defaults(run=_push)
    fetch = actions.add_parser("fetch", help="get an archive, and its attestations, out of a layout")
    fetch.add_argument("layout", type=Path)
    fetch.add_argument("-o", "--output", type=Path, required=True, metavar="ARCHIVE")
    fetch.add_argument("--tag", help="needed when there are several archives")
    fetch.set_defaults(run=_fetch)


def _verify(arguments: argparse.Namespace, _progress: Progress) -> int:
    from harness.bundle.verify import verify
    from harness.present.verification import as_json, as_text

    if arguments.attestation and (not arguments.key or len(arguments.archive) > 1):
        hint = "verify ARCHIVE --key KEY --attestation FILE"
        raise InputError("needs --key and a single archive", place="--attestation", hint=hint)
    if arguments.key:
        return _verify_attested(arguments)
    results = [verify(path) for path in arguments.archive]
    if arguments.json:
        print_json([as_json(result) for result in results])
    else:
        for result in results:
            print(as_text(result))
    return 0 if all(result.ok for result in results) else 4


def _verify_attested(arguments: argparse.Namespace) -> int:
    """As `_verify`; an archive that holds must also be attested by one of the keys."""
    from harness.bundle.attest import check_attestation, read_bundle
    from harness.bundle.signing import load_public_key
    from harness.bundle.verify import check, verify
    from harness.present import attestation, verification

    keys = [load_public_key(spec) for spec in arguments.key]
    documents, good = [], True
    for path in arguments.archive:
        result = verify(path)
        document = verification.as_json(result)
        lines = [verification.as_text(result)]
        good &= result.ok
        if result.ok:
            bundle, error = arguments.attestation or _beside(path), None
            try:
                check_attestation(check(path), read_bundle(bundle), keys, str(bundle))
            except VerificationError as fault:
                error, good = fault, False
            document["attestation"] = attestation.as_json(bundle, error)
            lines.append(attestation.as_text(bundle, error))
        documents.append(document)
        if not arguments.json:
            print("\n".join(lines))
    if arguments.json:
        print_json(documents)
    return 0 if good else 4


def _attest(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bundle.attest import statement_of
    from harness.bundle.signing import load_signer, sign
    from harness.bundle.verify import check
    from harness.bundle.whole_file import write_whole

    signer = load_signer(arguments.key)
    archive = check(arguments.archive)
    statement = statement_of(archive)
    output = arguments.output or _beside(arguments.archive)
    write_whole(output, sign(statement, signer), "attestation")
    clean = statement.predicate.observationHealth.clean
    progress.result(f"wrote {output} (run_id={archive.run_id}, evidence={'clean' if clean else 'not clean'})")
    return 0


def _push(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bundle.oci import push

    bundle = arguments.attestation
    if bundle is None and _beside(arguments.archive).is_file():
        bundle = _beside(arguments.archive)
    tag, digest = push(arguments.layout, arguments.archive, bundle, arguments.tag)
    told = f"with {bundle}" if bundle else "without an attestation"
    progress.result(f"pushed {arguments.layout}:{tag} {digest}, {told}")
    return 0


def _fetch(arguments: argparse.Namespace, progress: Progress) -> int:
    from harness.bundle.oci import fetch

    count = fetch(arguments.layout, arguments.output, arguments.tag)
    progress.result(f"wrote {arguments.output}, with {count or 'no'} attestation{'s' if count != 1 else ''}")
    return 0


def _beside(archive: Path) -> Path:
    """Where in-toto puts the attestations of a file."""
    from harness.contracts.attestation import BUNDLE_SUFFIX

    return archive.with_name(archive.name + BUNDLE_SUFFIX)
