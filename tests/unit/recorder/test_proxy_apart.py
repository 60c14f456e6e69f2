"""What the host says of the proxy's process, from entries of /proc as the kernel writes them."""

import os
from pathlib import Path

import pytest

from harness.recorder.apart import proxy_problems

GOOD = {
    "Name": "python3.11",
    "Uid": "65533\t65533\t0\t65533",
    "NSpid": "4711\t1",
    "CapPrm": "00000000000000e0",
    "CapEff": "0000000000000000",
    "CapBnd": "00000000000000e0",
    "NoNewPrivs": "1",
    "Seccomp": "2",
}


def entry(proc: Path, pid: int, owner: int = 0, **changed: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    lines = (f"{key}:\t{value}\n" for key, value in (GOOD | changed).items())
    (folder / "status").write_text("".join(lines))
    (folder / "mem").touch()
    os.chown(folder / "mem", owner, owner)


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@root
def test_the_first_process_of_the_container_is_looked_at(tmp_path: Path) -> None:
    entry(tmp_path, 12, NSpid="12\t7", Uid="0\t0\t0\t0")
    entry(tmp_path, 11)
    assert list(proxy_problems([10, 12, 11], 65533, proc=tmp_path)) == []


@pytest.mark.breaks("unclean:proxy_not_confined", "unclean:proxy_not_hidden")
@root
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Uid": "65534\t65534\t0\t65534"}, "proxy_not_apart"),
        ({"Uid": "0\t0\t0\t0"}, "proxy_not_apart"),
        ({"Uid": "65533\t0\t0\t65533"}, "proxy_not_apart"),
        ({"CapEff": "0000000000000080"}, "proxy_not_apart"),
        ({"CapPrm": "00000000000800e0"}, "proxy_not_apart"),
        ({"CapBnd": "000001ffffffffff"}, "proxy_not_apart"),
        ({"owner": 65533}, "proxy_not_hidden"),
        ({"NoNewPrivs": "0"}, "proxy_not_confined"),
        ({"Seccomp": "0"}, "proxy_not_confined"),
        ({"NSpid": "4711"}, "proxy_not_seen"),
    ],
)
def test_each_thing_that_is_not_so_has_its_code(
    tmp_path: Path, changed: dict[str, object], code: str
) -> None:
    entry(tmp_path, 11, **changed)  # type: ignore[arg-type]
    assert list(proxy_problems([11], 65533, proc=tmp_path)) == [code]


@pytest.mark.breaks("unclean:proxy_not_seen")
def test_a_process_that_has_gone_was_not_seen(tmp_path: Path) -> None:
    assert list(proxy_problems([11], 65533, proc=tmp_path)) == ["proxy_not_seen"]
