"""The programs under test and wheels to move around. CLARY_TOOL names the clary to run; build/dev/bin/clary otherwise."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pathlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator

import pytest
from serve import Handler, State, serving

ROOT = pathlib.Path(__file__).parents[3]
CLARY = os.environ.get("CLARY_TOOL", str(ROOT / "build/dev/bin/clary"))
UV = os.path.join(os.path.dirname(sys.executable), "uv")


def make_wheel(
    folder: pathlib.Path,
    name: str,
    version: str,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    size: int = 0,
    members: dict[str, pathlib.Path] | None = None,
) -> pathlib.Path:
    """A wheel of one module that knows its version; `size`: and a file of so many bytes that do not compress; `members`: and
    these files."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {r}" for r in requires),
                "",
            ]
        ).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {str(tag.endswith('any')).lower()}\nTag: {tag}\n".encode(),
    }
    if size:
        files[f"{name}/data.bin"] = b"".join(
            hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(size // 32)
        )
    files |= {path: file.read_bytes() for path, file in (members or {}).items()}
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in files.items():
            archive.writestr(zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0)), content)
    return path


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Clary:
    """The program in a home of its own."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self.env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "CLARY_CACHE": str(home / "cache"), "LANG": "C.UTF-8"}

    def start(self, *args: object, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CLARY, *map(str, args)],
            env=self.env | env,
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *args: object, code: int = 0, **env: str) -> str:
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"clary {args}: {process.returncode}\n{out}{err}"
        return out + err


@pytest.fixture
def clary(tmp_path: pathlib.Path) -> Clary:
    if not os.path.exists(CLARY):
        pytest.fail(f"no {CLARY}: cmake --build --preset dev --target clary_tool")
    (tmp_path / "home").mkdir()
    return Clary(tmp_path / "home")


@pytest.fixture
def another(tmp_path: pathlib.Path) -> Callable[[str], Clary]:
    def make(name: str) -> Clary:
        (tmp_path / name).mkdir()
        return Clary(tmp_path / name)

    return make


class Files(State):
    def __init__(self, root: pathlib.Path, as_json: bool) -> None:
        super().__init__()
        self.root, self.as_json = root, as_json


class FilesHandler(Handler):
    """A static host; `as_json`: one that knows the type of the JSON form, as _headers asks."""

    state: Files

    def answer(self) -> None:
        path = self.state.root / self.url_path.lstrip("/")
        if path.is_dir():
            if not self.url_path.endswith("/"):
                self.reply(301, Location=self.url_path + "/")
                return
            path /= "index.v1.json" if self.state.as_json else "index.html"
        if not path.is_file():
            self.reply(404)
            return
        kinds = {
            ".html": "text/html",
            ".json": "application/vnd.pypi.simple.v1+json",
            ".whl": "application/octet-stream",
        }
        self.reply_file(path.read_bytes(), Content_Type=kinds.get(path.suffix, "text/plain"), ETag=f'"{sha256(path)}"')


@contextlib.contextmanager
def file_server(root: pathlib.Path, as_json: bool = False) -> Iterator[tuple[str, Files]]:
    state = Files(root, as_json)
    with serving(FilesHandler, state) as url:
        yield url, state


def make_env(path: pathlib.Path, pip: bool = True) -> pathlib.Path:
    """A virtual environment; its interpreter. pip is the one of this test's Python, by a .pth file: faster than to install it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    if pip:
        import pip as pip_package

        site = next(path.glob("lib/python*/site-packages"))
        tools = pathlib.Path(pip_package.__file__).parent
        (site / "pip").symlink_to(tools)
    return path / "bin/python"
