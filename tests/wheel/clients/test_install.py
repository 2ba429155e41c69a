"""clary install, lock and sync into real environments, through pip and through uv, from a site on the loopback."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import time

import pytest
from conftest import UV, Clary, file_server, make_env, make_wheel
from serve import Handler


def version_in(python: pathlib.Path) -> str:
    code = "import demo, importlib.metadata as m; assert m.version('demo') == demo.version; print(demo.version)"
    return subprocess.run([python, "-c", code], text=True, capture_output=True).stdout.strip()


def site_of(python: pathlib.Path) -> pathlib.Path:
    return next(python.parents[1].glob("lib/python*/site-packages"))


@pytest.fixture
def wheels(tmp_path: pathlib.Path) -> pathlib.Path:
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheelhouse", "demo", version, size=200_000)
    return tmp_path / "wheelhouse"


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_install_upgrade_rollback(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path, client: str) -> None:
    clary.env["PATH"] = f"{pathlib.Path(UV).parent}:/usr/bin:/bin"
    clary("sign", "--new-key", "k")
    clary("publish", *wheels.glob("*.whl"), "--to", tmp_path / "site", "--key", "k.key")
    python = make_env(tmp_path / "env", pip=client == "pip")
    with file_server(tmp_path / "site") as (url, _):
        common = ("--from", f"{url}/latest.json", "--python", python, "--installer", client)
        assert "first manifest" in clary("install", "demo==1.0", *common)
        assert version_in(python) == "1.0"
        assert "already there" in clary("install", "demo==1.0", *common)
        receipt = json.loads((site_of(python) / ".clary/demo/receipt.json").read_text())
        assert receipt["version"] == "1.0"
        assert receipt["serial"] == 1
        assert "installed" in clary("install", "demo", *common)
        assert version_in(python) == "2.0"
        clary("install", "demo", "--rollback", *common)
        assert version_in(python) == "1.0"
        assert [p.name for p in site_of(python).glob("demo*")] != []
        assert sorted(p.name for p in site_of(python).glob("demo-*")) == ["demo-1.0.dist-info"]
    listed = subprocess.run([UV, "pip", "list", "--python", python], text=True, capture_output=True).stdout
    assert "demo" in listed and "1.0" in listed
    done = subprocess.run([UV, "pip", "uninstall", "--python", python, "demo"], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not list(site_of(python).glob("demo*")), "another tool can remove it whole"


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_lock_and_sync(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path, client: str) -> None:
    clary.env["PATH"] = f"{pathlib.Path(UV).parent}:/usr/bin:/bin"
    clary("publish", wheels / "demo-1.0-py3-none-any.whl", "--to", tmp_path / "site")
    python = make_env(tmp_path / "env", pip=client == "pip")
    with file_server(tmp_path / "site") as (url, _):
        clary("lock", "demo", "--from", f"{url}/latest.json", "--python", python)
        clary("publish", wheels / "demo-2.0-py3-none-any.whl", "--to", tmp_path / "site")
        assert "missing" in clary("sync", "--check", "--python", python, code=1)
        assert "installed" in clary("sync", "--python", python, "--installer", client)
        assert version_in(python) == "1.0"
        assert "already there" in clary("sync", "--check", "--python", python)
        clary("lock", "demo", "--check", "--from", f"{url}/latest.json", "--python", python, code=1)
        (tmp_path / "site/wheels/demo-1.0-py3-none-any.whl").unlink()
    other = make_env(tmp_path / "other", pip=client == "pip")
    clary("sync", "--python", other, "--installer", client)  # offline: the cache has it
    assert version_in(other) == "1.0"


def test_emitted_files_are_installed_by_uv(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    clary("publish", *wheels.glob("*.whl"), "--to", tmp_path / "site")
    with file_server(tmp_path / "site") as (url, _):
        for form, name in (("requirements", "requirements.txt"), ("pylock", "pylock.toml")):
            clary("install", "demo==1.0", "--from", f"{url}/latest.json", "--emit", form, "--out", name)
            python = make_env(tmp_path / form, pip=False)
            argv = [
                UV,
                "pip",
                "install",
                "--no-deps",
                "--python",
                python,
                "-r",
                clary.home / name,
                "--cache-dir",
                tmp_path / "uv",
            ]
            done = subprocess.run(argv, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr
            assert version_in(python) == "1.0"


def test_wrong_wheel_is_not_installed(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    clary("publish", *wheels.glob("*.whl"), "--to", tmp_path / "site")
    wheel = tmp_path / "site/wheels/demo-2.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[5000] ^= 1
    wheel.write_bytes(content)
    python = make_env(tmp_path / "env")
    with file_server(tmp_path / "site") as (url, _):
        said = clary(
            "install", "demo", "--from", f"{url}/latest.json", "--python", python, "--installer", "pip", code=1
        )
    assert "not the announced file" in said
    assert version_in(python) == ""
    assert not (site_of(python) / "demo").exists()


def test_no_pip_and_no_uv_says_so(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    python = make_env(tmp_path / "env", pip=False)
    assert "neither uv nor pip" in clary("install", "demo", "--from", wheels, "--python", python, code=2)


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_killed_at_any_time(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path, client: str) -> None:
    """SIGKILL at twelve moments of an upgrade by the real client: then the next command leaves the old package or the new."""
    clary.env["PATH"] = f"{pathlib.Path(UV).parent}:/usr/bin:/bin"
    python = make_env(tmp_path / "env", pip=client == "pip")
    common = ("--from", wheels, "--python", python, "--installer", client)
    clary("install", "demo==1.0", *common)
    begin = time.monotonic()
    clary("install", "demo==2.0", *common)
    whole = time.monotonic() - begin
    seen = set()
    for n in range(12):
        clary("install", "demo==1.0", *common)
        process = clary.start("install", "demo==2.0", *common)
        time.sleep(whole * n / 11)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        clary("install", "--rollback", "nothing-of-that-name", *common[2:], code=1)  # any command in that environment
        seen.add(version_in(python))
    assert seen <= {"1.0", "2.0"}


def test_cut_downloads_go_on(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A server that closes each connection after 60 kB: one command fetches all, each piece once."""
    clary("publish", wheels / "demo-1.0-py3-none-any.whl", "--to", tmp_path / "site")
    wheel = tmp_path / "site/wheels/demo-1.0-py3-none-any.whl"
    content, sent = wheel.read_bytes(), []

    def cut(handler: Handler) -> bool:
        if not handler.url_path.endswith(".whl"):
            return False
        begin = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        piece = content[begin : begin + 60_000]
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        handler.wfile.write(piece)
        handler.close_connection = True
        sent.append(len(piece))
        return True

    python = make_env(tmp_path / "env")
    with file_server(tmp_path / "site") as (url, state):
        state.before = cut  # type: ignore[method-assign]
        clary("install", "demo", "--from", f"{url}/latest.json", "--python", python, "--installer", "pip")
    assert version_in(python) == "1.0"
    assert sum(sent) == len(content)
    assert len(sent) == -(-len(content) // 60_000)


def test_two_installers_at_once(clary: Clary, wheels: pathlib.Path, tmp_path: pathlib.Path) -> None:
    python = make_env(tmp_path / "env")
    common = ("--from", wheels, "--python", python, "--installer", "pip")
    processes = [clary.start("install", f"demo=={version}", *common) for version in ("1.0", "2.0", "1.0")]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    assert version_in(python) in ("1.0", "2.0")
    assert len(list(site_of(python).glob("demo-*.dist-info"))) == 1
