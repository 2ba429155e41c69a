"""What the Python layer adds to a call: a report of its time (run pytest with -s), and nothing allocated but the output."""

from __future__ import annotations

import timeit
import tracemalloc
from typing import Any

import numpy as np
import pytest

import clary
from clary import _call


def microseconds(function: Any) -> float:
    return min(timeit.repeat(function, number=2000, repeat=7)) / 2000 * 1e6


def test_report(kind: Any) -> None:
    x = kind.array(np.ones((1, 1, 1, 1)))
    clary.attention(x, x, x)
    frame = _call.idle[-1]
    call = microseconds(lambda: clary.attention(x, x, x))
    inner = microseconds(lambda: frame.run(frame.address))
    print(f"\n{kind.name}: {call:.2f} us a call, {inner:.2f} of them in the library: {call - inner:.2f} above it")


def test_numpy_allocates_the_output_only(qkv: Any) -> None:
    q, k, v = (x.astype(np.float32) for x in qkv(queries=200, keys=200))
    views = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    for call in (
        lambda: clary.attention(q, k, v),
        lambda: clary.attention(*views, layout="NHD"),
        lambda: clary.attention(*(x.swapaxes(1, 2) for x in views), mask=np.broadcast_to(True, (200, 200))),
    ):
        call()
        tracemalloc.start()
        out = call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert out.nbytes <= peak < out.nbytes + 16384


def test_torch_allocates_the_output_only(qkv: Any) -> None:
    torch = pytest.importorskip("torch")
    from torch.overrides import TorchFunctionMode

    operators: list[str] = []

    class Record(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            answer = function(*args, **(kwargs or {}))
            if isinstance(answer, torch.Tensor):
                operators.append(function.__name__)
            return answer

    q, k, v = (torch.tensor(x, dtype=torch.float32) for x in qkv(dim=24))
    views = [x.transpose(1, 2) for x in (q, k, v)]
    mask, out = torch.ones(65, dtype=torch.bool), torch.empty_like(q)
    for call, want in (
        (lambda: clary.attention(q, k, v), ["empty_like"]),
        (lambda: clary.attention(*views, layout="NHD"), ["new_empty"]),
        (lambda: clary.attention(q, k, v, mask=mask, return_lse=True), ["new_empty"] * 2),
        (lambda: clary.attention(q, k, v, mask=mask, out=out), []),
    ):
        call()
        with Record():
            call()
        assert operators == want
        operators.clear()
