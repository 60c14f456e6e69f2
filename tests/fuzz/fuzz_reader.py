"""Coverage-guided fuzzing of the verifier (atheris): no input may crash it, and none may be accepted but what
holds the same members as the archive it came from.

    python tests/fuzz/fuzz_reader.py [libFuzzer options] tests/fuzz/corpus

The first byte of an input says what the rest is: a file, the payload of a right gzip frame, or one member
of a whole archive under manifests that fit.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harness"]):
    from harness.bundle.layout import gzip_bytes, tar_bytes
    from harness.bundle.reader import read_archive
    from harness.bundle.verify import verify
    from harness.errors import AssayError

from tests.unit.bundle.derive import remake_manifests

S5 = Path(__file__).parents[1] / "golden" / "diff" / "s5.tar.gz"
MEMBERS = dict(read_archive(S5).members)
NAMES = tuple(MEMBERS)
FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name) / "input.tar.gz"


def archive_of(data: bytes) -> bytes:
    """The file that an input stands for."""
    kind, rest = data[:1], data[1:]
    if kind == b"f" or not kind:
        return rest
    if kind == b"p":
        return gzip_bytes(rest)
    name = NAMES[kind[0] % len(NAMES)]
    changed = MEMBERS | {name: rest}
    # A changed manifest stays as it is; for any other member both manifests are made to fit.
    made = changed if name.endswith("manifest.json") else remake_manifests(changed)
    return gzip_bytes(tar_bytes(made.items()))


def one_input(data: bytes) -> None:
    """Whatever is not a finding is an error of ours; what verifies can be read again."""
    PATH.write_bytes(archive_of(data))
    try:
        result = verify(PATH)
    except AssayError:
        return
    if result.ok:
        read_archive(PATH)
    else:
        assert all(problem.code and problem.text for problem in result.problems)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
