"""Names that programs import from inside other packages and that clary has no use for: they say so when called."""

from __future__ import annotations

from typing import Any, NoReturn


class _Refused:
    """Stands for a function or a Triton kernel."""

    def __init__(self, name: str, why: str) -> None:
        self.__name__, self._why = name, why

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{self.__name__} is not served: {self._why}")

    def __getitem__(self, grid: Any) -> _Refused:
        return self


def refused(name: str, why: str) -> Any:
    return _Refused(name, why)
