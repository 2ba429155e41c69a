"""Distributions under other packages' names: the ones enable() shows to importlib.metadata, and shim wheels.

A shim wheel is a package of one line, "import clary; clary.enable(...)", with the metadata that programs ask for before they
import anything. pip would replace an installed package of that name without a word, so a shim is installed by install(),
which refuses to; and status(), which `clary doctor` prints, tells what is there.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from . import _switch

SUMMARY = "clary under this name"  # tells a shim's metadata from the real package's


def names() -> list[str]:
    return list(_switch.VERSIONS)


def metadata_text(name: str) -> str:
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {_switch.version(name)}\nSummary: {SUMMARY}\n"
    return head + "License-Expression: Apache-2.0\nRequires-Python: >=3.9\nRequires-Dist: clary\n"


class Shown(metadata.Distribution):
    """Stands for `name` while it is enabled. It has no files of its own."""

    def __init__(self, name: str) -> None:
        packages = "\n".join(_switch.PACKAGES[name])  # importlib.metadata.packages_distributions() reads it
        self._texts = {"METADATA": metadata_text(name), "top_level.txt": packages}

    def read_text(self, filename: str) -> str | None:
        return self._texts.get(filename)

    def locate_file(self, path: Any) -> Any:
        return Path(__file__).parent / "compat" / path


# ---- the wheel --------------------------------------------------------------------------------------------------------


def build(name: str, directory: Path) -> Path:
    """Writes the shim wheel of `name`. The same bytes every time."""
    directory.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{_switch.version(name)}.dist-info"
    files = {f"{package}/__init__.py": _module(name) for package in _switch.PACKAGES[name]}
    files[f"{info}/METADATA"] = metadata_text(name)
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: clary\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    wheel = directory / f"{name}-{_switch.version(name)}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return wheel


def _module(name: str) -> str:
    return (
        f'"""{SUMMARY}: this module makes way for the one of clary.compat."""\n\n'
        f'import clary._switch\n\nclary._switch.enable_from_shim("{name}", __name__, __file__)\n'
    )


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def install(name: str, replace: bool = False) -> None:
    """pip installs the shim here, unless a real package of that name is: FileExistsError, which `replace` overrides."""
    for there in status():
        if there["name"] == name and there["real"] and not replace:
            raise FileExistsError(
                f"{name} {there['real']} is installed in {there['where']}. Keep it and call clary.enable({name!r}), or replace "
                "it with --replace."
            )
    with tempfile.TemporaryDirectory() as directory:
        wheel = build(name, Path(directory))
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
        subprocess.run(pip, check=True, stdout=sys.stderr)


# ---- what is there ----------------------------------------------------------------------------------------------------


def _installed(name: str) -> Iterator[metadata.Distribution]:
    """Of every folder on the path: the first is the one imports find."""
    for found in metadata.distributions(name=name, path=sys.path):
        yield found


def status() -> list[dict[str, Any]]:
    """For each name: {"name", "enabled", "shim": version or None, "real": version or None, "where", "finding"}."""
    rows = []
    for name in names():
        row: dict[str, Any] = {"name": name, "enabled": name in _switch.state().names}
        row.update(shim=None, real=None, where=None, finding="")
        for found in _installed(name):
            kind = "shim" if found.metadata["Summary"] == SUMMARY else "real"
            row[kind] = row[kind] or found.version
            row["where"] = row["where"] or str(found.locate_file(""))
        for package in _switch.PACKAGES[name]:
            where = _folder(package)
            if where and not row["shim"] and not row["real"]:
                row.update(real="of unknown version", where=where)
        if row["shim"] and row["real"]:
            row["finding"] = (
                f"both a shim and {name} {row['real']} are on the path. Uninstall one: pip uninstall {name}"
            )
        rows.append(row)
    return rows


def _folder(package: str) -> str | None:
    """Where a package is that has no metadata."""
    for folder in sys.path:
        if folder and (Path(folder) / package / "__init__.py").exists():
            return folder
    return None
