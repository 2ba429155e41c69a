"""Proof that every backend on this machine computes attention: a small problem on each, against float64, without NumPy.

The library reads CLARY_FORCE once a process, so each target has a process of its own, all at the same time.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from operator import mul
from typing import Any

from . import _call, _lib

# Tells right from wrong: the relative L2 error of a right kernel is 0.02 at most, of a wrong one above 0.5.
LIMIT = 0.05

# ---- a backend for machines without NumPy ---------------------------------------------------------------------------


class Floats:
    """ctypes floats with a shape; without memory they can only be explained. On GPU `device` if it is not -1."""

    def __init__(self, shape: Sequence[int], allocate: bool = True, code: int = _lib.F32, device: int = -1) -> None:
        self.shape, self.code, self.device = tuple(shape), code, device
        self.values: Any = (ctypes.c_float * math.prod(shape))() if allocate else None
        self.on_gpu = Gpu.get(device).copy_of(self.values) if allocate and device >= 0 else 0

    def to(self, device: int) -> Floats:
        if device < 0:
            return self
        moved = Floats(self.shape, False, self.code, device)
        moved.values, moved.on_gpu = self.values, Gpu.get(device).copy_of(self.values)
        return moved

    def back(self) -> Any:
        if self.device >= 0:
            Gpu.get(self.device).read(self.on_gpu, self.values)
        return self.values

    def rows(self) -> list[list[float]]:
        """Along the last dimension."""
        d = self.shape[-1]
        return [self.values[i : i + d] for i in range(0, len(self.values), d)]


class Gpu:
    """Memory of one GPU, through the driver alone; given back when the process ends."""

    _open: dict[int, Gpu] = {}

    def __init__(self, device: int) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        handle, context = ctypes.c_int(), ctypes.c_void_p()
        self._do("cuInit", 0)
        self._do("cuDeviceGet", ctypes.byref(handle), device)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self._do("cuCtxSetCurrent", context)

    @classmethod
    def get(cls, device: int) -> Gpu:
        if device not in cls._open:
            cls._open[device] = cls(device)
        return cls._open[device]

    def _do(self, name: str, *args: Any) -> None:
        status = getattr(self.driver, name)(*args)
        if status:
            raise RuntimeError(f"{name} answers {status}.")

    def copy_of(self, values: Any) -> int:
        size, pointer = max(ctypes.sizeof(values), 4), ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        self._do("cuMemcpyHtoD_v2", pointer, values, ctypes.c_size_t(ctypes.sizeof(values)))
        return pointer.value

    def read(self, pointer: int, values: Any) -> None:
        self._do("cuMemcpyDtoH_v2", values, ctypes.c_uint64(pointer), ctypes.c_size_t(ctypes.sizeof(values)))


def view(x: Floats, name: str, broadcast: bool = False) -> _call.View:
    return _call.View(data(x), x.shape, _call.contiguous(x.shape), x.code, x.device, x)


def signature(q: Floats, k: Floats, v: Floats) -> None:
    return None


def data(x: Floats) -> int:
    return x.on_gpu if x.device >= 0 else 0 if x.values is None else ctypes.addressof(x.values)


def empty(q: Floats, shape: Sequence[int], f32: bool = False) -> Floats:
    return Floats(shape, device=q.device)


def empty_like(q: Floats) -> Floats:
    return empty(q, q.shape)


def int32(x: Sequence[int], q: Floats, name: str) -> tuple[int, int, Any]:
    values = (ctypes.c_int32 * len(x))(*x)
    pointer = Gpu.get(q.device).copy_of(values) if q.device >= 0 else ctypes.addressof(values)
    return pointer, len(x), values


def workspace(device: int, size: int) -> tuple[int, int, Any]:
    memory = Floats((-(-size // 4),), device=device)
    return 0, memory.on_gpu, lambda _, memory=memory: None


def fallback(reason: str, a: _call.Arguments) -> Any:
    raise NotImplementedError(reason)


# ---- one target -----------------------------------------------------------------------------------------------------


def problem() -> _call.Arguments:
    """Odd sizes, grouped heads, causal, and NaN where kv_lens says that there is nothing."""
    gauss = random.Random(0).gauss
    q, k, v = Floats((2, 4, 70, 40)), Floats((2, 2, 90, 40)), Floats((2, 2, 90, 24))
    for x in (q, k, v):
        x.values[:] = [gauss(0, 1) for _ in x.values]
    keys = 51  # of the second batch entry
    for x in (k, v):
        for head in (2, 3):
            begin, end = (head * 90 + keys) * x.shape[3], (head + 1) * 90 * x.shape[3]
            x.values[begin:end] = [math.nan] * (end - begin)
    return _call.Arguments(q, k, v, causal=True, kv_lens=[90, keys], return_lse=True)


def reference(a: _call.Arguments) -> Iterator[tuple[list[float], float]]:
    """out and lse of each query, in float64."""
    keys, k, v = a.k.shape[2], a.k.rows(), a.v.rows()
    heads, queries, head_dim = a.q.shape[1:]
    for row, q in enumerate(a.q.rows()):
        i, b = row % queries, row // queries // heads
        first = row // queries * a.k.shape[1] // heads * keys
        last = first + min(i + 1, a.kv_lens[b])
        scores = [sum(map(mul, q, key)) / math.sqrt(head_dim) for key in k[first:last]]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        total = sum(weights)
        yield [sum(map(mul, weights, column)) / total for column in zip(*v[first:last])], top + math.log(total)


def check_one(target: str, device: int = -1) -> list[dict[str, Any]]:
    """The rows of one target, in a process whose CLARY_FORCE names it; on GPU `device` unless -1."""
    a = problem()
    want, want_lse = zip(*reference(a))
    flat = [x for row in want for x in row]
    rows = []
    name = target if device < 1 else f"{target} {device}"
    for accuracy in ("exact", "high", "standard", "fast"):
        row: dict[str, Any] = {"target": name, "accuracy": accuracy, "variant": "", "error": None, "why": ""}
        rows.append(row)
        try:
            on_device = a._replace(accuracy=accuracy, q=a.q.to(device), k=a.k.to(device), v=a.v.to(device))
            out, lse = _call.attend(sys.modules[__name__], None, *on_device)
        except Exception as error:
            row["why"] = f"{type(error).__name__}: {error}"
            if isinstance(error, NotImplementedError) and device >= 0 and accuracy in ("exact", "high"):
                rows.pop()  # a GPU may leave these to torch
            continue
        row["variant"] = _lib.load().clary_last_variant().decode()
        row["error"] = math.dist(out.back(), flat) / math.hypot(*flat)
        worst = max(abs(x - y) for x, y in zip(lse.back(), want_lse))
        if not row["variant"].startswith(target + ":"):
            row["why"] = "another target ran"
        elif not row["error"] < LIMIT or not worst < 10 * LIMIT:
            row["why"] = f"wrong result (lse off by {worst:.1e})"
    return rows


# ---- all of them ----------------------------------------------------------------------------------------------------


def check_all(info: dict[str, Any]) -> list[dict[str, Any]]:
    running = []
    path = os.pathsep.join(p for p in sys.path if p)
    targets = [(f"cpu:{name}", -1) for name in info["cpu"]["usable"]]
    targets += [(f"cuda:{gpu['path']}", gpu["id"]) for gpu in info["cuda"]["gpus"] if gpu["path"]]
    for target, device in targets:
        command = [sys.executable, "-m", "clary", "doctor", "--one", target, "--device", str(device)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, "CLARY_FORCE": target, "PYTHONPATH": path}
        running.append((target, subprocess.Popen(command, env=environment, **pipes)))
    rows = []
    for target, process in running:
        stdout, stderr = process.communicate()
        if process.returncode == 0:
            rows += json.loads(stdout)
        else:
            why = f"exit code {process.returncode}: {stderr.strip()[-200:]}"
            rows.append({"target": target, "accuracy": "", "variant": "", "error": None, "why": why})
    return rows


def cuda_lines(cuda: dict[str, Any]) -> list[str]:
    lines = [
        f"cuda {g['id']}: {g['name']}, compute capability {g['capability']}{'' if g['path'] else ', too old'}"
        for g in cuda["gpus"]
    ]
    if not cuda["images"]:
        lines.append(f"{'cuda':<18}not in this build")
    elif cuda["error"]:
        lines.append(f"{'cuda':<18}{cuda['error']}")
    return lines


def main(as_json: bool, file: Any) -> bool:
    try:
        info = _lib.info()
        rows = check_all(info)
        why = "" if rows else "no usable target"
    except RuntimeError as error:
        info, rows, why = {}, [], str(error)
    from . import _shim

    dropin = _shim.status()
    ok = not why and not any(row["why"] for row in rows) and not any(row["finding"] for row in dropin)
    if as_json:
        print(json.dumps({"ok": ok, "why": why, "info": info, "checks": rows, "dropin": dropin}, indent=2), file=file)
        return ok
    lines = [f"{'target':<18}{'accuracy':<10}{'variant':<26}{'error':>8}"]
    for row in rows:
        figure = "" if row["error"] is None else f"{row['error']:.1e}"
        lines.append(f"{row['target']:<18}{row['accuracy']:<10}{row['variant']:<26}{figure:>8}  {row['why'] or 'ok'}")
    if info:
        cpu = info["cpu"]
        lines.insert(
            0, f"clary {info['version']}: {cpu['name'].strip()}, {cpu['threads']} threads, best cpu:{cpu['best']}\n"
        )
        lines += [f"cpu:{name:<14}not on this machine" for name in cpu["built"] if name not in cpu["usable"]]
        lines += cuda_lines(info["cuda"])
    for row in dropin:
        installed = [f"{kind} {row[kind]} in {row['where']}" for kind in ("shim", "real") if row[kind]]
        words = ["enabled"] * row["enabled"] + installed or ["not here"]
        lines.append(f"{row['name']:<18}{row['finding'] or ', '.join(words)}")
    print("\n".join(lines) if info else why, file=file)
    print("\nall right" if ok else "\nnot right: please report the lines above", file=file)
    return ok
