"""Where CI is set, nothing may be skipped: the hooks of tests/conftest.py, tried for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = {
    "skip": "import pytest\ndef test_it():\n    pytest.skip('no kernel')\n",
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='no kernel')\ndef test_it(): pass\n",
    "fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('x')\ndef test_it(f): pass\n",
    "xfail": "import pytest\n@pytest.mark.xfail(reason='x')\ndef test_it(): assert False\n",
    "module": "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n",
}


def _run(folder: Path, text: str, ci: str) -> int:
    (folder / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    (folder / "test_it.py").write_text(text)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
    ]
    return subprocess.run(argv, env=os.environ | {"CI": ci}, capture_output=True, check=False).returncode


@pytest.mark.parametrize("kind", TESTS)
def test_a_test_that_does_not_run_fails_in_ci(tmp_path: Path, kind: str) -> None:
    assert _run(tmp_path, TESTS[kind], "1") in (1, 2)  # 2: at collection
    assert _run(tmp_path, TESTS[kind], "") in (0, 5)  # 5: nothing was collected


def test_a_test_that_runs_passes(tmp_path: Path) -> None:
    assert _run(tmp_path, "def test_it(): pass\n", "1") == 0
