"""python -m clary: doctor, info, explain, and their exit codes."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

import clary
from clary import _doctor


def test_doctor_proves_every_target(python: Any) -> None:
    begin = time.monotonic()
    done = python("-m", "clary", "doctor", "--json")
    assert time.monotonic() - begin < 5
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] and not any(row["why"] for row in answer["checks"])
    proved = {(row["target"], row["accuracy"]) for row in answer["checks"]}
    words = ("exact", "high", "standard", "fast")
    assert proved >= {(f"cpu:{name}", word) for name in clary.info()["cpu"]["usable"] for word in words}
    for gpu in clary.info()["cuda"]["gpus"]:
        assert any(name.startswith(f"cuda:{gpu['path']}") for name, _ in proved)
    for row in answer["checks"]:
        assert row["variant"].startswith(row["target"].split()[0] + ":") and 0 <= row["error"] < _doctor.LIMIT


def test_doctor_table() -> None:
    text = io.StringIO()
    assert clary.doctor(file=text)
    assert all(f"cpu:{name}" in text.getvalue() for name in clary.info()["cpu"]["built"])
    assert text.getvalue().endswith("all right\n")


def test_doctor_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _doctor.reference
    monkeypatch.setattr(_doctor, "reference", lambda a: (([-x for x in row], lse) for row, lse in real(a)))
    target = f"cpu:{clary.info()['cpu']['best']}"
    assert all(row["why"].startswith("wrong result") for row in _doctor.check_one(target))


def test_doctor_finds_a_wrong_lse(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _doctor.reference
    monkeypatch.setattr(_doctor, "reference", lambda a: ((row, lse + 1) for row, lse in real(a)))
    assert all(row["why"] for row in _doctor.check_one(f"cpu:{clary.info()['cpu']['best']}"))


def test_doctor_finds_another_target() -> None:
    assert all(row["why"] == "another target ran" for row in _doctor.check_one("cpu:abacus"))


def test_doctor_reports_a_crash(python: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _doctor.check_all({"cpu": {"usable": ["abacus"]}, "cuda": {"gpus": []}})
    assert rows and all(row["why"] for row in rows)
    done = python("-m", "clary", "doctor", CLARY_LIBRARY="/nowhere/libclary.so")
    assert done.returncode == 1 and "CLARY_LIBRARY" in done.stdout
    done = python("-m", "clary", "doctor", "--json", CLARY_LIBRARY="/nowhere/libclary.so")
    assert done.returncode == 1 and not json.loads(done.stdout)["ok"]


def test_info(python: Any) -> None:
    there, here = json.loads(python("-m", "clary", "info").stdout), clary.info()
    for info in (there, here):
        del info["cpu"]["threads"]  # where torch is loaded, its
    assert there == here


def test_explain(python: Any) -> None:
    done = python("-m", "clary", "explain", "1,8,1024,64", "--kv", "1,2,4096,64", "--causal", "lower_right", "--json")
    assert json.loads(done.stdout)["variant"].startswith("cpu:")
    assert "cpu:" in python("-m", "clary", "explain", "1,8,1024,64").stdout
    if not clary.info()["cuda"]["gpus"]:
        done = python("-m", "clary", "explain", "1,8,1024,64", "--cuda", "0")
        assert done.returncode == 0 and clary.info()["cuda"]["error"] in done.stdout
    done = python("-m", "clary", "explain", "1,8,8192,128", "--gpu", "RTX 4090", "--json")
    answer = json.loads(done.stdout)
    assert answer["variant"] == "cuda:sm89:int8" or "this build has no GPU code" in answer["reason"]
    done = python("-m", "clary", "explain", "1,8,1024,300")
    assert done.returncode == 0 and "256" in done.stdout


@pytest.mark.parametrize("args", [[], ["cure"], ["explain"], ["explain", "8,64"], ["explain", "a,b"]], ids=str)
def test_usage(python: Any, args: list[str]) -> None:
    done = python("-m", "clary", *args)
    assert done.returncode == 2 and done.stderr and not done.stdout
