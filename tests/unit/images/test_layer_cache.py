"""Kept layers: built once, kept while they are used, removed when nothing has asked for them for long."""

import os
import time
from pathlib import Path

import pytest

from harness.engine.images import UNUSED_DAYS, _layer, _record, find_list
from harness.engine.layer_plans import LayerPlan
from harness.engine.layers import Entry, Layer, check_layer

DAY = 86400


def plan(name: str) -> LayerPlan:
    return LayerPlan(name, (), lambda _: {name: Entry(source=name.encode())}, ())


def age(one: LayerPlan, state: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(_record(one, state), (then, then))


def kept(state: Path) -> set[str]:
    return {path.name for path in (state / "cache/layers").iterdir()}


def names(*layers: Layer) -> set[str]:
    return {layer.path.with_suffix(kind).name for layer in layers for kind in (".json", ".tar", ".files")}


def test_a_layer_is_built_once(tmp_path: Path) -> None:
    said: list[str] = []
    first, again = (_layer(plan("a"), tmp_path, said.append) for _ in range(2))
    assert first == again
    assert [line.partition(":")[0] for line in said] == ["building image layer a", "built image layer a"]
    assert kept(tmp_path) == names(first)


def test_what_was_not_asked_for_in_long_goes_when_another_is_built(tmp_path: Path) -> None:
    unused, used, young = (_layer(plan(name), tmp_path, print) for name in ("a", "b", "c"))
    for name, days in (("a", UNUSED_DAYS + 1), ("b", UNUSED_DAYS + 1), ("c", UNUSED_DAYS - 1)):
        age(plan(name), tmp_path, days)
    assert _layer(plan("b"), tmp_path, print) == used  # a look-up alone removes nothing
    assert kept(tmp_path) == names(unused, used, young)
    new = _layer(plan("d"), tmp_path, print)
    assert kept(tmp_path) == names(used, young, new)
    assert find_list(unused.digest, state=tmp_path) is None
    again = _layer(plan("a"), tmp_path, print)
    assert again == unused
    check_layer(again)


def test_what_is_asked_for_while_it_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between the look at its age and its removal."""
    used = _layer(plan("a"), tmp_path, print)
    age(plan("a"), tmp_path, UNUSED_DAYS + 1)
    rename = Path.rename

    def asked_for_first(path: Path, target: Path) -> Path:
        if target.suffix == ".gone":
            assert _layer(plan("a"), tmp_path, print) == used
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", asked_for_first)
    new = _layer(plan("b"), tmp_path, print)
    assert kept(tmp_path) == names(used, new)


def test_what_a_killed_process_left_half_removed_is_removed(tmp_path: Path) -> None:
    half = _layer(plan("a"), tmp_path, print)
    _record(plan("a"), tmp_path).rename(half.path.with_suffix(".gone"))
    half.list_path.unlink()
    new = _layer(plan("b"), tmp_path, print)
    assert kept(tmp_path) == names(new)
