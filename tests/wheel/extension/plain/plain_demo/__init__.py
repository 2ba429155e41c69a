"""The library through ctypes."""

import ctypes
import os

_library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "_plain.so"))


def version() -> int:
    return _library.plain_version()


def scale_on_host(x: float, by: float) -> float:
    _library.plain_scale_on_host.restype = ctypes.c_float
    return _library.plain_scale_on_host(ctypes.c_float(x), ctypes.c_float(by))
