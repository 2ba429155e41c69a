"""A Hugging Face repository between clary and huggingface_hub's own client: each reads what the other wrote."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Callable, Iterator

import huggingface_hub
import pytest
from conftest import Clary, make_env, make_wheel, sha256
from hub import Hub, HubHandler
from serve import Handler, serving

REPO = "someone/wheels"


@pytest.fixture
def hub(clary: Clary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    with serving(HubHandler, state) as url:
        clary.env |= {"HF_ENDPOINT": url, "HF_TOKEN": state.token, "HF_REPO_ID": REPO}
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield state
    assert not state.cdn_tokens, "a token was sent to the host of the blobs"


def client(hub: Hub) -> huggingface_hub.HfApi:
    return huggingface_hub.HfApi(endpoint=hub.url, token=hub.token)


def test_clary_publishes_and_their_client_downloads(clary: Clary, hub: Hub, tmp_path: pathlib.Path) -> None:
    wheel = make_wheel(tmp_path / "w", "demo", "1.0+cu128torch2.8.0", requires=("torch==2.8.*",), size=100_000)
    clary("sign", "--new-key", "k")
    clary("publish", wheel, "--key", "k.key")  # makes the repository, from HF_REPO_ID
    manifest = json.loads(hub.files(REPO)["latest.json"])
    assert manifest["torch_version"] == "2.8.0"
    assert manifest["torch_index_url"].endswith("/whl/cu128")
    path = client(hub).hf_hub_download(REPO, wheel.name, cache_dir=tmp_path / "hf")
    assert sha256(pathlib.Path(path)) == sha256(wheel)
    assert sorted(client(hub).list_repo_files(REPO)) == sorted(hub.files(REPO))
    commits = len(hub.repos[REPO])
    assert "already there" in clary("publish", wheel, "--key", "k.key")
    assert len(hub.repos[REPO]) == commits


def test_their_client_uploads_and_clary_installs(clary: Clary, hub: Hub, tmp_path: pathlib.Path) -> None:
    """The first installers' layout: a wheel and latest.json, uploaded by hand."""
    wheel = make_wheel(tmp_path / "w", "demo", "1.0", size=50_000)
    keys = {
        "torch_version": "2.8.0",
        "torchvision_version": "0.23.0",
        "torchaudio_version": "2.8.0",
        "triton_version": "3.4.0",
    }
    stack = keys | {
        "torch_index_url": "https://download.pytorch.org/whl/cu128",
        "wheel": wheel.name,
        "sha256": sha256(wheel),
    }
    (tmp_path / "w/latest.json").write_text(json.dumps(stack))
    client(hub).create_repo(REPO, private=True)
    client(hub).upload_folder(repo_id=REPO, folder_path=tmp_path / "w")
    python = make_env(tmp_path / "env")
    said = clary("install", "demo", "--python", python, "--installer", "pip")
    assert "installed: demo-1.0" in said
    assert "not signed" in said
    more = make_wheel(tmp_path / "more", "demo", "1.1")
    clary("publish", more)
    manifest = json.loads(hub.files(REPO)["latest.json"])
    assert {w["filename"] for w in manifest["wheels"]} == {wheel.name, more.name}, "what was there before is kept"


def test_private_needs_a_token(clary: Clary, hub: Hub, tmp_path: pathlib.Path) -> None:
    clary("publish", make_wheel(tmp_path / "w", "demo", "1.0"))
    said = clary("resolve", "demo", code=1, HF_TOKEN="")
    assert "no wheels" in said or "token" in said.lower()
    said = clary("publish", make_wheel(tmp_path / "w", "demo", "1.1"), code=1, HF_TOKEN="hf_wrong_secret")
    assert "hf_wrong_secret" not in said


def test_large_files_in_parts(clary: Clary, hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.chunk = 30_000
    wheel = make_wheel(tmp_path / "w", "demo", "1.0", size=200_000)
    clary("publish", wheel)
    assert hub.files(REPO)[wheel.name] == wheel.read_bytes()


def test_two_publishers(clary: Clary, another: Callable[[str], Clary], hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.create(REPO)
    other = another("other")
    other.env |= {k: clary.env[k] for k in ("HF_ENDPOINT", "HF_TOKEN", "HF_REPO_ID")}
    wheels = [make_wheel(tmp_path / "w", "demo", f"1.{n}", size=20_000) for n in range(4)]
    processes = [who.start("publish", wheel) for who, wheel in zip((clary, other, clary, other), wheels, strict=True)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    manifest = json.loads(hub.files(REPO)["latest.json"])
    assert {w["filename"] for w in manifest["wheels"]} == {w.name for w in wheels}
    assert manifest["serial"] == 4


class Killer:
    """Ends the client at its n-th request, before or after the stand-in did what was asked."""

    def __init__(self, n: int, after: bool) -> None:
        self.left, self.after, self.fired = n, after, False
        self.started = threading.Event()

    def __call__(self, handler: Handler) -> bool:
        self.left -= 1
        if self.left != -1:
            return False
        self.started.wait(20)
        self.fired = True
        if self.after:
            handler.reply = lambda *a, **k: None  # type: ignore[method-assign]
            with handler.state.lock:
                handler.answer()
        self.process.kill()
        handler.close_connection = True
        return True


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_request(clary: Clary, hub: Hub, tmp_path: pathlib.Path, after: bool) -> None:
    old = make_wheel(tmp_path / "w", "demo", "1.0")
    clary("publish", old)
    before = dict(hub.files(REPO))
    fresh = [make_wheel(tmp_path / "w", "demo", f"2.{n}", size=10_000) for n in range(3)]
    commits = hub.repos[REPO]
    points, n = 0, 0
    while True:
        hub.repos[REPO] = commits[:2]
        (clary.home / ".config/clary/sources.json").unlink(missing_ok=True)  # the hub itself was rolled back
        hub.blobs = {sha: blob for sha, blob in hub.blobs.items() if blob in before.values()}
        killer = Killer(n, after)
        hub.before = killer  # type: ignore[method-assign]
        killer.process = clary.start("publish", *fresh)
        killer.started.set()
        killer.process.communicate(timeout=60)
        hub.before = lambda handler: False  # type: ignore[method-assign]
        now = hub.files(REPO)
        names = {w["filename"] for w in json.loads(now["latest.json"])["wheels"]}
        assert names in ({old.name}, {old.name, *(w.name for w in fresh)})
        assert names <= set(now), "every wheel that is named is there"
        if not killer.fired:
            break
        clary("publish", *fresh)
        assert {w.name for w in fresh} <= set(hub.files(REPO))
        points, n = points + 1, n + 1
    assert points >= 8
