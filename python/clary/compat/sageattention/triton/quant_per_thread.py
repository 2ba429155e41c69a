"""Per-thread codes, and the two kernels that make them where callers launch those themselves: kernel[grid](...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _fused
from ..quant import per_thread_int8

__all__ = ["per_thread_int8", "quant_key_per_thread_int8_kernel", "quant_query_per_thread_int8_kernel"]


class _Kernel:
    def __init__(self, group: Callable[[Tensor, int], Tensor]) -> None:
        self._group = group  # (row, rows of a warp) -> the number of its scale

    def __getitem__(self, grid: Any) -> Any:
        return self._run

    def _run(self, x: Tensor, codes: Tensor, scales: Tensor, tokens: int, *strides: int, C: int, BLK: int) -> None:
        """strides: of x by batch, head and token, then of codes, then of scales by batch and head."""
        layout = int(strides[2] != x.stride(1) or strides[1] == x.stride(1))
        x4 = _fused.heads_first(x, layout).float()
        _fused.quantise(x4, self._group(_fused.rows(x, layout), BLK), _fused.heads_first(codes, layout), scales)


quant_query_per_thread_int8_kernel = _Kernel(lambda row, warp: row // warp * 8 + row % 8)
quant_key_per_thread_int8_kernel = _Kernel(lambda row, warp: row // warp * 4 + row % 8 // 2)
