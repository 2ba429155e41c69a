"""Distributions of other packages' names: what enable() shows to importlib.metadata."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from . import _switch

SUMMARY = "clary under this name"


class Shown(metadata.Distribution):
    """Stands for `name` while it is enabled. It has no files of its own."""

    def __init__(self, name: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {_switch.version(name)}\nSummary: {SUMMARY}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return Path(__file__).parent / "compat" / path
