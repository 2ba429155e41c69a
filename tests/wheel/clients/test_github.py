"""Releases of GitHub: what clary publishes is what `gh release` and browsers read, and it is never half there."""

from __future__ import annotations

import hashlib
import json
import pathlib
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import Clary, make_env, make_wheel
from github import Github, GithubHandler
from serve import serving
from test_hub import Killer

STORE = "github:someone/wheels@v1"


@pytest.fixture
def github(clary: Clary) -> Iterator[Github]:
    state = Github()
    with serving(GithubHandler, state) as url:
        clary.env |= {"GITHUB_API_URL": url, "GITHUB_TOKEN": state.token}
        yield state


def shown(github: Github) -> dict[str, bytes]:
    """What a reader without a token sees of the release."""
    try:
        with urllib.request.urlopen(f"{github.url}/repos/someone/wheels/releases/tags/v1") as answer:
            release = json.load(answer)
    except urllib.error.HTTPError:
        return {}
    with urllib.request.urlopen(
        f"{github.url}/repos/someone/wheels/releases/{release['id']}/assets?per_page=100"
    ) as answer:
        assets = json.load(answer)
    out = {}
    for asset in assets:
        with urllib.request.urlopen(asset["browser_download_url"]) as content:
            out[asset["name"]] = content.read()
        assert asset["digest"] == "sha256:" + hashlib.sha256(out[asset["name"]]).hexdigest()
    return out


def test_publish_and_install(clary: Clary, github: Github, tmp_path: pathlib.Path) -> None:
    wheel = make_wheel(tmp_path / "w", "demo", "1.0+cu128torch2.8.0", requires=("torch==2.8.*",), size=30_000)
    plain = make_wheel(tmp_path / "w", "demo", "0.9")
    clary("sign", "--new-key", "k")
    clary("publish", wheel, plain, "--to", STORE, "--key", "k.key")
    files = shown(github)
    assert files[wheel.name] == wheel.read_bytes()
    assert json.loads(files["latest.json"])["torch_version"] == "2.8.0"
    assert files["latest.json"] == files["manifest-000001.json"]
    assert github.releases[0]["draft"] is False
    posts = len([m for m, _ in github.seen if m != "GET"])
    assert "already there" in clary("publish", wheel, "--to", STORE, "--key", "k.key")
    assert len([m for m, _ in github.seen if m != "GET"]) == posts
    python = make_env(tmp_path / "env")
    clary(
        "install",
        "demo==0.9",
        "--from",
        STORE,
        "--key",
        "k.pub",
        "--python",
        python,
        "--installer",
        "pip",
        GITHUB_TOKEN="",
    )
    clary("publish", make_wheel(tmp_path / "w", "demo", "1.1"), "--to", STORE, "--key", "k.key")
    assert "demo-1.1" in clary(
        "resolve", "demo", "--from", "github:someone/wheels", "--python", "3.12", GITHUB_TOKEN=""
    )
    said = clary("publish", make_wheel(tmp_path / "x", "demo", "1.1", size=64), "--to", STORE, "--key", "k.key", code=1)
    assert "another wheel of that name" in said


def test_two_publishers(clary: Clary, github: Github, tmp_path: pathlib.Path) -> None:
    clary("publish", make_wheel(tmp_path / "w", "demo", "1.0"), "--to", STORE)
    wheels = [make_wheel(tmp_path / "w", "demo", f"1.{n}") for n in range(1, 4)]
    processes = [clary.start("publish", wheel, "--to", STORE) for wheel in wheels]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    said = clary("resolve", "demo", "--from", STORE, "--python", "3.12")
    assert all(wheel.name in said for wheel in wheels)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_killed_at_every_request(
    clary: Clary, github: Github, tmp_path: pathlib.Path, first: bool, after: bool
) -> None:
    """A new release is not seen before it is whole; wheels added to an old one are offered together or not at all."""
    old = make_wheel(tmp_path / "w", "demo", "1.0")
    fresh = [make_wheel(tmp_path / "w", "demo", f"2.{n}", size=5_000) for n in range(2)]
    if not first:
        clary("publish", old, "--to", STORE)
    kept = (list(github.releases), dict(github.assets), dict(github.content))
    points, n = 0, 0
    while True:
        (clary.home / ".config/clary/sources.json").unlink(missing_ok=True)  # GitHub itself was rolled back
        github.releases = [dict(r) for r in kept[0]]
        github.assets, github.content = dict(kept[1]), dict(kept[2])
        killer = Killer(n, after)
        github.before = killer  # type: ignore[method-assign]
        killer.process = clary.start("publish", *fresh, "--to", STORE)
        killer.started.set()
        killer.process.communicate(timeout=60)
        github.before = lambda handler: False  # type: ignore[method-assign]
        whole = {w.name for w in fresh} | (set() if first else {old.name})
        process = clary.start("resolve", "demo", "--from", STORE, "--python", "3.12", "--json", GITHUB_TOKEN="")
        out, err = process.communicate(timeout=60)
        offered = {c["wheel"] for c in json.loads(out)["candidates"]} if out else set()
        assert offered in (set() if first else {old.name}, whole), err
        assert offered <= set(shown(github))
        if not killer.fired:
            break
        clary("publish", *fresh, "--to", STORE)
        assert whole <= set(shown(github))
        points, n = points + 1, n + 1
    assert points >= 6
