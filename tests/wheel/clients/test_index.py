"""pip and uv install from a site that `clary index` wrote, in both forms of the index, with hashes required."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import UV, Clary, file_server, make_env, make_wheel, sha256

STACKS = [("cu126", "2.6.0"), ("cu128", "2.8.0"), ("cu129", "2.9.0"), ("cu130", "2.11.0")]


def install(client: str, python: pathlib.Path, *args: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    clean |= {"UV_CACHE_DIR": str(python.parents[1] / "uv-cache"), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    if client == "pip":
        argv = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir", *args]
    else:
        argv = [UV, "pip", "install", "--python", str(python), *args]
    return subprocess.run(argv, env=clean, text=True, capture_output=True, timeout=120)


def installed(python: pathlib.Path, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", code], text=True, capture_output=True).stdout.strip()


@pytest.fixture
def site(clary: Clary, tmp_path: pathlib.Path) -> pathlib.Path:
    wheels = tmp_path / "wheelhouse"
    for cuda, torch in STACKS:
        line = ".".join(torch.split(".")[:2])
        make_wheel(wheels, "demo", f"2.2.0+{cuda}torch{torch}", requires=(f"torch=={line}.*",))
        make_wheel(wheels, "torch", f"{torch}+{cuda}")
    clary("index", wheels, "--out", tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("form", ["html", "json"])
def test_the_wheel_of_the_stack(site: pathlib.Path, tmp_path: pathlib.Path, client: str, form: str) -> None:
    python = make_env(tmp_path / "env", pip=client == "pip")
    with file_server(site, form == "json") as (url, state):
        for cuda, torch in STACKS[1:3]:
            line = ".".join(torch.split(".")[:2])
            done = install(client, python, "demo", "--index-url", f"{url}/{cuda}/torch{line}/")
            assert done.returncode == 0, done.stderr
            # What is there satisfies the second request for `demo`; the exact one does not.
            done = install(
                client, python, f"demo==2.2.0+{cuda}torch{torch}", "--index-url", f"{url}/{cuda}/torch{line}/"
            )
            assert done.returncode == 0, done.stderr
            assert installed(python, "demo") == f"2.2.0+{cuda}torch{torch}"
            assert installed(python, "torch") == f"{torch}+{cuda}"
        assert any(path.endswith(".whl.metadata") for _, path in state.seen), (
            "the client used the metadata beside the wheel"
        )
        assert not any("cu130" in path for _, path in state.seen)


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("form", ["html", "json"])
def test_hashes_are_required_and_right(site: pathlib.Path, tmp_path: pathlib.Path, client: str, form: str) -> None:
    python = make_env(tmp_path / "env", pip=client == "pip")
    version = "2.2.0+cu128torch2.8.0"
    wheel = next((site / "wheels").glob("demo-2.2.0+cu128*.whl"))
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text(f"demo=={version} --hash=sha256:{sha256(wheel)}\n")
    bad.write_text(f"demo=={version} --hash=sha256:{'0' * 64}\n")
    with file_server(site, form == "json") as (url, _):
        options = ("--index-url", f"{url}/simple/", "--no-deps", "--require-hashes", "-r")
        assert install(client, python, *options, str(bad)).returncode != 0
        assert installed(python, "demo") == ""
        done = install(client, python, *options, str(good))
        assert done.returncode == 0, done.stderr
        assert installed(python, "demo") == version
        # A wheel that changed after it was indexed is refused by the hash in the page.
        wheel.write_bytes(wheel.read_bytes() + b"\0")
        other = make_env(tmp_path / "other", pip=client == "pip")
        done = install(client, other, f"demo=={version}", "--no-deps", "--index-url", f"{url}/simple/")
        assert done.returncode != 0
        assert "hash" in done.stderr.lower()


def test_packaging_reads_every_page(site: pathlib.Path) -> None:
    code = "import packaging.utils as u, sys; [u.parse_wheel_filename(n) for n in sys.argv[1:]]"
    names = [p.name for p in (site / "wheels").glob("*.whl")]
    assert len(names) == 8
    subprocess.run([sys.executable, "-c", code, *names], check=True)
