"""The doctor: every failed need is named with its remedy, and none is forgotten."""

import sys
import time
from pathlib import Path

import pytest

from harness.errors import EnvironmentUnfitError
from harness.host import cgroup, doctor, kernel
from harness.host.doctor import Check
from harness.host.state import State


def _named(state: State, name: str) -> Check:
    return next(check for check in doctor.checks(state) if check.name == name)


def test_it_is_fast_and_every_failure_has_a_remedy(tmp_path: Path) -> None:
    started = time.process_time()
    found = doctor.checks(State(tmp_path / "not" / "made"))
    assert time.process_time() - started < 0.5
    assert len({check.name for check in found}) == len(found) == 12
    assert all(check.remedy for check in found if not check.ok)


def test_what_is_missing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path)
    monkeypatch.setattr(kernel, "BTF", tmp_path / "no-btf")
    monkeypatch.setattr(kernel, "TRACEFS", tmp_path / "no-tracefs")
    monkeypatch.setattr(kernel, "headers", lambda: None)
    monkeypatch.setattr(kernel, "ring_buffer", lambda: "Operation not permitted")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "_LEAST_FREE", 1 << 80)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "lockdown").write_text("none integrity [confidentiality]\n")
    monkeypatch.setattr(kernel, "LOCKDOWN", tmp_path / "lockdown")

    def no_root() -> cgroup.CgroupRoot:
        raise EnvironmentUnfitError("cgroup v2 is not mounted", hint="mount it")

    monkeypatch.setattr(cgroup, "find_root", no_root)
    failed = {check.name for check in doctor.checks(state) if not check.ok}
    assert failed == {check.name for check in doctor.checks(state)}
    with pytest.raises(EnvironmentUnfitError) as caught:
        doctor.require_fit(state)
    assert len(caught.value.problems) == len(failed)
    assert caught.value.exit_code == 5
    assert "riscv64" in str(caught.value)


def test_the_package_of_the_same_name_is_not_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)  # the real one, if a test before has loaded it
    assert not _named(State(tmp_path), "bcc").ok
    (tmp_path / "bcc" / "libbcc.py").write_text("")
    assert _named(State(tmp_path), "bcc").ok


@pytest.mark.parametrize(
    ("text", "mode"),
    [("[none] integrity confidentiality\n", "none"), ("none [integrity] confidentiality\n", "integrity")],
)
def test_lockdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: str) -> None:
    monkeypatch.setattr(kernel, "LOCKDOWN", tmp_path / "lockdown")
    assert kernel.lockdown() == "none"
    (tmp_path / "lockdown").write_text(text)
    assert kernel.lockdown() == mode
    assert _named(State(tmp_path), "lockdown").ok


def test_headers_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    assert kernel.headers() is None
    (tmp_path / "include" / "generated").mkdir(parents=True)
    (tmp_path / "include" / "generated" / "autoconf.h").write_text("")
    assert kernel.headers() == tmp_path


def test_checks_of_others_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "checks", lambda _: [])
    doctor.require_fit(State(tmp_path))
    with pytest.raises(EnvironmentUnfitError, match="engine: down"):
        doctor.require_fit(State(tmp_path), lambda _: [Check("engine", ok=False, detail="down", remedy="up")])
