"""libclary.so: finding it, the layout of its one argument struct, and its statuses as exceptions.

A Frame is what one call needs: a reusable packed clary_attention_args and a workspace. Idle frames wait in a list whose
pop and append are atomic, so that any number of threads, and a call inside another's signal handler, have one each.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any, DefaultDict

F16, BF16, F32, BOOL = 1, 2, 3, 4  # clary_dtype
HAS_SCALE, HAS_WINDOW, NOT_SLOWER, FULL_WORKSPACE = 1, 2, 4, 8
OK, NOT_SUPPORTED, WORKSPACE_TOO_SMALL, NO_DEVICE = 0, 5, 6, 7

# clary_attention_args in three parts, each written on its own. A tensor: data, shape[4], stride[4], dtype, reserved.
_TENSOR = "Q4q4qii"
HEAD = struct.Struct("=QIiiiifqq" + 4 * _TENSOR)  # size to window; q, k, v, out
EXTRAS = struct.Struct("=" + 2 * _TENSOR + "QQQqqq")  # lse, mask; kv_lens, cu_seqlens, num_seqs, max_seqlen
MEMORY = struct.Struct("=QQQQ")  # workspace, workspace_size, stream, executor
EXTRAS_AT = HEAD.size
MEMORY_AT = EXTRAS_AT + EXTRAS.size
SIZE = MEMORY_AT + MEMORY.size
HEAD_SLICE, Q_WORD, K_WORD, V_WORD, OUT_WORD = slice(HEAD.size // 8), 6, 16, 26, 36  # in 64-bit words
WORKSPACE_WORD, SIZE_WORD, STREAM_WORD = range(MEMORY_AT // 8, MEMORY_AT // 8 + 3)

CACHED_WORKSPACE = 64 << 20  # bytes; larger ones live for one call
_NAMES = {"win32": "clary.dll", "darwin": "libclary.dylib"}


class NotSupported(NotImplementedError):
    """A correct problem that no backend here serves."""


_ERRORS = {1: ValueError, 2: ValueError, 3: ValueError, 4: TypeError, NOT_SUPPORTED: NotSupported, 8: MemoryError}
if not os.environ.get("CLARY_FORCE"):  # what is forced never falls back
    _ERRORS[NO_DEVICE] = NotSupported

_library: ctypes.CDLL | None = None


def load() -> ctypes.CDLL:
    """The library, loaded once: $CLARY_LIBRARY, else the one beside this file. RuntimeError if it cannot be."""
    global _library
    if _library is not None:
        return _library
    name = _NAMES.get(sys.platform, "libclary.so")
    path = os.environ.get("CLARY_LIBRARY") or os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        hint = "Reinstall clary, or set CLARY_LIBRARY to its path."
        raise RuntimeError(f"{name} cannot be loaded: {error}. {hint}") from None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.clary_attention.argtypes = [pointer]
    library.clary_workspace_size.argtypes = [pointer, pointer]
    library.clary_explain.argtypes = [pointer, ctypes.c_int32, pointer, size, pointer]
    library.clary_info.argtypes = [pointer, size, pointer]
    library.clary_set_threads.argtypes = [ctypes.c_int32]
    library.clary_use_openmp.argtypes = [ctypes.c_char_p]
    for text in ("clary_version", "clary_last_variant", "clary_last_error", "clary_last_hint"):
        getattr(library, text).restype = ctypes.c_char_p
    _library = library
    return library


def error(status: int) -> Exception:
    """The exception for a status of this thread's last call: "sentence. hint"."""
    sentence, hint = (text.decode() for text in (load().clary_last_error(), load().clary_last_hint()))
    return _ERRORS.get(status, RuntimeError)(f"{sentence.rstrip('.')}. {hint}".rstrip())


def text(function: Any, *args: Any) -> str:
    """What a (..., buffer, capacity, needed) function writes."""
    capacity = 4096
    while True:
        buffer, needed = ctypes.create_string_buffer(capacity), ctypes.c_size_t()
        status = function(*args, buffer, capacity, ctypes.byref(needed))
        if status != OK:
            raise error(status)
        if needed.value <= capacity:
            return buffer.value.decode()
        capacity = needed.value


def info() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(text(load().clary_info))
    return answer


def version() -> str:
    """The library's version, which is the package's; the installed metadata's where there is no library."""
    try:
        return str(load().clary_version().decode())
    except RuntimeError:
        from importlib import metadata

        try:
            return metadata.version("clary")
        except metadata.PackageNotFoundError:
            return "0+unknown"


class Frame:
    """One call's packed arguments and workspace. `counts` holds the calls it made: by variant, or by (kind, why) of stats()."""

    def __init__(self) -> None:
        self.run: Callable[[int], int] = self._load_and_run
        self.variant: Callable[[], bytes] = bytes
        self.args = bytearray(SIZE)
        self.words = memoryview(self.args).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.args))
        self.extras = False  # whether the EXTRAS part may be anything but zero
        self.workspace: Any = None  # owns the memory that the MEMORY part names
        self.counts: DefaultDict[bytes | tuple[str, str], int] = defaultdict(int)

    def _load_and_run(self, address: int) -> int:
        library = load()
        self.run, self.variant = library.clary_attention, library.clary_last_variant
        return int(self.run(address))

    def head(self) -> memoryview:
        """A copy of the HEAD part."""
        return memoryview(bytes(self.args[: HEAD.size])).cast("Q")

    def out_is_like_q(self) -> bool:
        """Whether their shapes and strides are the same."""
        return self.words[Q_WORD + 1 : Q_WORD + 9] == self.words[OUT_WORD + 1 : OUT_WORD + 9]

    def clear_extras(self) -> None:
        self.args[EXTRAS_AT:MEMORY_AT] = bytes(EXTRAS.size)
        self.extras = False

    def set_memory(self, pointer: int, size: int, stream: int = 0) -> None:
        words = self.words
        words[WORKSPACE_WORD], words[SIZE_WORD], words[STREAM_WORD] = pointer, size, stream

    def workspace_size(self) -> int:
        size = ctypes.c_uint64()
        status = load().clary_workspace_size(self.address, ctypes.byref(size))
        if status != OK:
            raise error(status)
        return size.value

    def run_grown(self) -> int:
        """Runs with the workspace the call needs, and keeps it for later calls unless it is large."""
        size = self.workspace_size()
        try:
            workspace = mmap.mmap(-1, size)  # zero pages, of which only the used ones are ever touched
        except OSError:
            raise MemoryError(f"no memory for a workspace of {size} bytes. Free some, or split the batch.") from None
        self.set_memory(ctypes.addressof(ctypes.c_char.from_buffer(workspace)), size)
        self.workspace = workspace
        try:
            return int(self.run(self.address))
        finally:
            if size > CACHED_WORKSPACE:
                self.set_memory(0, 0)
                self.workspace = None


frames: list[Frame] = []  # all there are: as many as calls were ever under way at once
idle: list[Frame] = []


def new_frame() -> Frame:
    frame = Frame()
    frames.append(frame)
    return frame
