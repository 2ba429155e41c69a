"""NumPy arrays: f16, f32, and bf16 as ml_dtypes has it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from . import _call, _lib

_TYPES: dict[Any, tuple[int, int]] = {  # dtype -> clary_dtype, log2 of its bytes
    np.dtype(np.float16): (_lib.F16, 1),
    np.dtype(np.float32): (_lib.F32, 2),
    np.dtype(np.bool_): (_lib.BOOL, 0),
}

# ndarray.ctypes.data costs a microsecond. The C struct of an array, part of NumPy's ABI, opens with its pointer.
_FIRST_FIELD = object.__basicsize__
_word_at = ctypes.c_size_t.from_address


def _documented_data(x: Any) -> int:
    return int(x.ctypes.data)


def _direct_data(x: Any) -> int:
    return _word_at(id(x) + _FIRST_FIELD).value


_probe = np.empty(3)[1:]
_direct = sys.implementation.name == "cpython" and _direct_data(_probe) == _documented_data(_probe)
data = _direct_data if _direct else _documented_data


def view(x: Any, name: str, broadcast: bool = False) -> _call.View:
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a {type(x).__name__}. Pass NumPy arrays, what is hidden as mask or kv_lens.")
    code, shift = _TYPES.get(x.dtype) or _type(x, name)
    shape, stride = x.shape, [s >> shift for s in x.strides]
    split = any(s % x.itemsize for s in x.strides)  # a field of a record: strides are not whole elements
    if split or (stride and stride[-1] != 1 and shape[-1] > 1 and not (broadcast and stride[-1] == 0)):
        x = np.ascontiguousarray(x)
        stride = [s >> shift for s in x.strides]
    if name == "out" and not x.flags.writeable:
        raise ValueError("out is read-only. Pass a writable array.")
    return _call.View(data(x), shape, stride, code, -1, x)


def _type(x: Any, name: str) -> tuple[int, int]:
    if x.dtype.name == "bfloat16":
        return _TYPES.setdefault(x.dtype, (_lib.BF16, 1))
    also = "bool, " if name == "mask" else ""
    raise TypeError(f"{name} is {x.dtype}. Convert it to {also}float32, float16 or bfloat16: {name}.astype('float32').")


def signature(q: Any, k: Any, v: Any) -> Any:
    if type(q) is type(k) is type(v) is np.ndarray:
        return q.shape, q.strides, q.dtype, k.shape, k.strides, k.dtype, v.shape, v.strides, v.dtype
    return None


def empty(q: Any, shape: Sequence[int], f32: bool = False) -> Any:
    return np.empty(shape, np.float32 if f32 else q.dtype)


def empty_like(q: Any) -> Any:
    return np.empty(q.shape, q.dtype)


def int32(x: Any, q: Any, name: str) -> tuple[int, int, Any]:
    x = np.asarray(x)
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise TypeError(f"{name} is {x.dtype} with {x.ndim} dimensions. Pass a 1-d array of integers.")
    x = np.ascontiguousarray(x if x.dtype == np.int32 else x.clip(-1, 2**31 - 1), np.int32)
    return data(x), x.size, x


def workspace(device: int, size: int) -> tuple[int, int, Any]:
    raise NotImplementedError("NumPy arrays are not on a GPU.")


def fallback(reason: str, a: _call.Arguments) -> NoReturn:
    raise NotImplementedError(f"{reason} NumPy arrays have no other backend.")


def differentiable(grad: str) -> Any:
    if _call._word("grad", grad, _call._GRAD):
        raise ValueError("NumPy arrays have no backward pass. Pass torch tensors, or leave grad out.")
    return sys.modules[__name__]


def attention(q: Any, k: Any, v: Any, *args: Any) -> Any:
    return _call.attend(_self, signature(q, k, v), q, k, v, *args)


_self = sys.modules[__name__]
explain = partial(_call.explain, sys.modules[__name__], "NotImplementedError")
