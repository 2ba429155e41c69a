"""clary.enable(): imports, metadata, torch's SDPA, the environment variable and the shim wheels, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import clary
from clary import _shim

PTH = Path(clary.__file__).parent.parent / "clary-enable.pth"
START = f"import site; site.addsitedir({str(PTH.parent)!r})\n"  # as an interpreter does that has it in site-packages


def run(python: Any, code: str, *args: str, **env: str) -> str:
    done = python(*args, "-c", code, **env)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_nothing_is_there_unless_enabled(python: Any) -> None:
    code = "import clary.compat.sageattention, sys; print('sageattention' in sys.modules, clary._switch._finder in sys.meta_path)"
    assert run(python, code.replace("sys;", "sys, clary._switch;")) == "False False\n"


def test_imports_and_metadata(python: Any) -> None:
    code = """
import importlib, importlib.metadata, importlib.util, sys, clary
clary.enable("sageattention", "sageattn3", "spas_sage_attn")
assert "torch" not in sys.modules
assert importlib.util.find_spec("sageattention").origin and importlib.util.find_spec("sageattention.core")
assert importlib.metadata.version("sageattention") == importlib.metadata.version("SageAttention") == "2.2.0+clary"
assert [d.metadata["Name"] for d in importlib.metadata.distributions() if d.version.endswith("+clary")]
assert not [d for d in importlib.metadata.distributions(path=["/nowhere"])]
assert importlib.metadata.packages_distributions()["sageattn"] == ["sageattn3"]
assert importlib.util.find_spec("sageattention.absent") is None
import sageattention, sageattention.core, sageattn3, sageattn, spas_sage_attn
import sageattention.triton.quant_per_thread as deep
from clary.compat import sageattention as ours
assert sageattention is ours and sageattention.core is importlib.import_module("clary.compat.sageattention.core")
assert deep.per_thread_int8 is sageattention.core.per_thread_int8_triton
assert sageattn.sageattn_blackwell is sageattn3.sageattn3_blackwell
assert importlib.util.find_spec("sageattention") and importlib.reload(sageattention) is ours
clary.disable("sageattention")
for gone in ("sageattention", "sageattention.core"):
    assert gone not in sys.modules
try:
    import sageattention
except ModuleNotFoundError as error:
    assert error.name == "sageattention"
import sageattn3
clary.disable()
assert clary._switch._finder not in sys.meta_path
"""
    run(python, code)


def test_what_was_imported_before_is_named_and_put_back(python: Any, tmp_path: Path) -> None:
    (tmp_path / "sageattention").mkdir()
    (tmp_path / "sageattention/__init__.py").write_text("mark = 1\n")
    code = f"""
import sys, warnings; sys.path.insert(0, {str(tmp_path)!r})
import sageattention as real, clary
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    with clary.enable("sageattention"):
        import sageattention
        assert sageattention is not real
assert len(seen) == 1 and "imported before" in str(seen[0].message), seen
import sageattention
assert sageattention is real and real.mark == 1
"""
    run(python, code)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_functions_go_to_other_processes(python: Any, tmp_path: Path, method: str) -> None:
    """By name, bare and bound: the worker has not enabled anything where it is a new interpreter."""
    pytest.importorskip("torch")
    program = tmp_path / "program.py"
    program.write_text(f"""
import functools, multiprocessing
import clary
from clary.compat import sdpa

def work(function):
    import torch
    q = torch.ones(1, 2, 200, 64)
    return tuple(function(q, q, q).shape)

if __name__ == "__main__":
    clary.enable("sageattention")
    from sageattention import sageattn
    functions = [sageattn, functools.partial(sageattn, is_causal=True), sdpa.scaled_dot_product_attention]
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        assert pool.map(work, functions) == [(1, 2, 200, 64)] * 3
""")
    done = python(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["torch", "clary"])
def test_sdpa(python: Any, first: str) -> None:
    """Whichever is imported first, torch's function is replaced, and put back."""
    pytest.importorskip("torch")
    code = f"""
import {first}
import clary
enabled = clary.enable("sdpa", accuracy="exact")
import torch, torch.nn.functional as F
q = torch.randn(1, 2, 200, 64)
own = torch._C._nn.scaled_dot_product_attention
assert F.scaled_dot_product_attention is not own and torch.__spec__.loader.get_source("torch")
got = F.scaled_dot_product_attention(q, q, q)
attention = torch.nn.MultiheadAttention(64, 2, batch_first=True).eval()
with torch.no_grad():
    attention(q[0], q[0], q[0], need_weights=False)
counted = clary.stats()
assert counted["calls"] >= 1 and all(":f32" in name for name in counted["variants"]), counted
with enabled:
    pass
assert F.scaled_dot_product_attention is own
assert torch.allclose(got, F.scaled_dot_product_attention(q, q, q), atol=1e-5)
assert clary.stats()["calls"] == counted["calls"]
"""
    run(python, code)


def test_the_environment_variable(python: Any) -> None:
    code = (
        START
        + "import sageattention, clary; print(sageattention.__name__, sorted(clary._switch.state()[0]), *clary._switch.state()[1:])"
    )
    words = "sageattention, sdpa,accuracy=high,grad=recompute"
    assert (
        run(python, code, CLARY_ENABLE=words) == "clary.compat.sageattention ['sageattention', 'sdpa'] high recompute\n"
    )


def test_the_environment_variable_costs_nothing_unset(python: Any) -> None:
    code = "import os; os.environ.pop('CLARY_ENABLE', None)\n" + START + "import sys; print('clary' in sys.modules)"
    assert run(python, code) == "False\n"


@pytest.mark.parametrize("words", ["sageatention", "sdpa,accuracy=best", "sdpa,speed=9"])
def test_a_mistake_in_it_is_a_warning(python: Any, words: str) -> None:
    done = python("-c", START, CLARY_ENABLE=words)
    assert done.returncode == 0 and "RuntimeWarning: CLARY_ENABLE" in done.stderr


def test_torch_is_imported_without_the_library(python: Any) -> None:
    pytest.importorskip("torch")
    words = {"CLARY_ENABLE": "sdpa", "CLARY_LIBRARY": "/nowhere/libclary.so"}
    code = START + "import torch; q = torch.ones(1, 2, 3, 4); torch.nn.functional.scaled_dot_product_attention(q, q, q)"
    done = python("-c", code, **words)
    assert done.returncode == 0 and "torch keeps its own attention" in done.stderr, done.stderr


def test_words_are_checked() -> None:
    for names, words in ((("sage",), {}), (("sdpa",), {"accuracy": "best"}), (("sdpa",), {"grad": "yes"})):
        with pytest.raises(ValueError, match="(cannot be enabled|Use one of)"):
            clary.enable(*names, **words)


# ---- shim wheels ------------------------------------------------------------------------------------------------------


def test_shim_wheels_are_reproducible_and_whole(tmp_path: Path) -> None:
    for name in _shim.names():
        one, two = (_shim.build(name, tmp_path / folder) for folder in "ab")
        assert (
            one.read_bytes() == two.read_bytes()
            and one.name == f"{name}-{clary._switch.version(name)}-py3-none-any.whl"
        )
        with zipfile.ZipFile(one) as archive:
            record = archive.read(next(n for n in archive.namelist() if n.endswith("RECORD"))).decode()
            assert sorted(archive.namelist()) == sorted(line.split(",")[0] for line in record.splitlines())


@pytest.fixture
def environment(tmp_path: Path) -> Any:
    """Runs code, or pip, in a new virtual environment that finds clary and what the tests need."""
    import site

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    interpreter = tmp_path / "env/bin/python"
    mine = subprocess.run(
        [interpreter, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
    ).stdout.strip()
    # The package first; then all that this interpreter sees, torch and pip among it.
    lines = [
        str(Path(clary.__file__).parent.parent),
        *site.getsitepackages(),
        *(p for p in sys.path if p.endswith("-packages")),
    ]
    Path(mine, "test.pth").write_text("\n".join(lines) + "\n")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        clean = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "CLARY_ENABLE")}
        return subprocess.run([interpreter, *args], capture_output=True, text=True, env=clean, timeout=120)

    run.site = Path(mine)  # type: ignore[attr-defined]
    return run


PROGRAM = """
import importlib.metadata, sys
version = importlib.metadata.version("sageattention")
assert version.startswith("2.2"), version
from sageattention import sageattn
import sageattention.core
assert sageattn is sageattention.core.sageattn and sageattention.__name__ == "clary.compat.sageattention"
from sageattention.core import SM80_ENABLED
print("served")
"""


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not in this environment")
def test_shim_installs_and_a_real_one_is_not_replaced(environment: Any) -> None:
    pytest.importorskip("torch")
    done = environment("-m", "clary", "shim", "sageattention")
    assert done.returncode == 0, done.stderr
    done = environment("-W", "error", "-c", PROGRAM)
    assert done.stdout == "served\n", done.stderr
    (row,) = (
        r
        for r in json.loads(environment("-m", "clary", "doctor", "--json").stdout)["dropin"]
        if r["name"] == "sageattention"
    )
    assert (row["shim"], row["real"], row["finding"]) == ("2.2.0+clary", None, "")

    # A real one beside it, as a copied folder leaves: named by the import and by doctor.
    other = environment.site / "other"
    (other / "sageattention").mkdir(parents=True)
    (other / "sageattention/__init__.py").write_text("")
    info = other / "sageattention-2.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sageattention\nVersion: 2.2.0\n")
    (environment.site / "zz.pth").write_text(f"{other}\n")
    assert "is a shim of clary" in environment("-c", PROGRAM).stderr
    done = environment("-m", "clary", "doctor")
    assert done.returncode == 1 and "both a shim and sageattention 2.2.0" in done.stdout
    done = environment("-m", "clary", "shim", "sageattention")
    assert done.returncode == 1 and "sageattention 2.2.0 is installed" in done.stderr and "--replace" in done.stderr


def test_shim_words(python: Any) -> None:
    for args in (["shim"], ["shim", "nothing"]):
        assert python("-m", "clary", *args).returncode == 2
