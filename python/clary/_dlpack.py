"""Anything else with __dlpack__: as NumPy arrays, or as torch tensors where NumPy lacks the dtype or the device.

Results go back through the from_dlpack of q's array namespace, or of its package (CuPy).
"""

from __future__ import annotations

import importlib
import sys
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
    try:
        import torch
    except ImportError:
        raise NotImplementedError(
            f"{type(q).__name__} arrays of this dtype or device need torch. Install it."
        ) from None
    from . import _torch

    return _torch, torch.from_dlpack


def _convert(q: Any, args: tuple[Any, ...]) -> tuple[ModuleType, list[Any]]:
    backend, from_dlpack = _adopt(q)
    return backend, [from_dlpack(x) if hasattr(x, "__dlpack__") else x for x in (q, *args)]


def _way_back(q: Any) -> Callable[[Any], Any]:
    home = (
        q.__array_namespace__() if hasattr(q, "__array_namespace__") else sys.modules[type(q).__module__.split(".")[0]]
    )
    from_dlpack: Callable[[Any], Any] = getattr(home, "from_dlpack", lambda x: x)
    return from_dlpack


def differentiable(grad: str) -> Any:
    return importlib.import_module("clary._numpy").differentiable(grad)


def attention(q: Any, *args: Any) -> Any:
    backend, converted = _convert(q, args)
    answer = backend.attention(*converted)
    back = _way_back(q)
    result, *lse = answer if isinstance(answer, tuple) else (answer,)
    result = back(result) if args[-1] is None else args[-1]
    return (result, back(lse[0])) if lse else result


def explain(q: Any, *args: Any) -> Any:
    backend, converted = _convert(q, args)
    return backend.explain(*converted)
