"""Time of calls on a GPU, by its own events, and its clock and power."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Meter:
    """The GPU's clock and power, from NVML where its Python package is there."""

    def __init__(self) -> None:
        self.nvml: Any = None
        try:
            import pynvml
            import torch

            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(0).uuid)
            self.nvml, self.handle = pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except Exception as error:
            print(f"no clocks and power: {error}", file=sys.stderr)

    def read(self) -> tuple[int, int] | None:
        if self.nvml is None:
            return None
        clock = self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM)
        return int(clock), round(self.nvml.nvmlDeviceGetPowerUsage(self.handle) / 1000)


def timed(call: Callable[[], Any], count: int, during: Callable[[], None] = lambda: None) -> float:
    """Seconds of a call on the GPU, over `count` of them back to back; `during` runs while the GPU works."""
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(count):
        call()
    end.record()
    during()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / count
