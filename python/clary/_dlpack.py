"""Anything else with __dlpack__: as NumPy arrays, or as torch tensors where NumPy lacks the dtype or the device.

Results go back through the from_dlpack of q's array namespace, where it has one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

_CPU = 1  # kDLCPU


def _adopt(q: Any) -> tuple[ModuleType, Callable[[Any], Any]]:
    """The backend and the from_dlpack that serve q."""
    if q.__dlpack_device__()[0] == _CPU:
        try:
            import numpy

            numpy.from_dlpack(q)
            from . import _numpy

            return _numpy, numpy.from_dlpack
        except (ImportError, BufferError, RuntimeError, TypeError):
            pass
    import torch

    from . import _torch

    return _torch, torch.from_dlpack


def _convert(q: Any, args: tuple[Any, ...]) -> tuple[ModuleType, list[Any]]:
    backend, from_dlpack = _adopt(q)
    return backend, [from_dlpack(x) if hasattr(x, "__dlpack__") else x for x in (q, *args)]


def differentiable(grad: str) -> Any:
    return importlib.import_module("clary._numpy").differentiable(grad)


def attention(q: Any, *args: Any) -> Any:
    backend, converted = _convert(q, args)
    answer = backend.attention(*converted)
    back = q.__array_namespace__().from_dlpack if hasattr(q, "__array_namespace__") else lambda x: x
    result, *lse = answer if isinstance(answer, tuple) else (answer,)
    result = back(result) if args[-1] is None else args[-1]
    return (result, back(lse[0])) if lse else result


def explain(q: Any, *args: Any) -> Any:
    backend, converted = _convert(q, args)
    return backend.explain(*converted)
