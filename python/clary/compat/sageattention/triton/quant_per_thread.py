"""Per-thread codes. The Triton kernels of that name, which callers launch on a grid of their own, are refused."""

from ..._private import refused
from ..quant import per_thread_int8

__all__ = ["per_thread_int8", "quant_key_per_thread_int8_kernel", "quant_query_per_thread_int8_kernel"]

_WHY = "there is no Triton here. Call per_thread_int8, or clary.attention."
quant_query_per_thread_int8_kernel = refused("quant_query_per_thread_int8_kernel", _WHY)
quant_key_per_thread_int8_kernel = refused("quant_key_per_thread_int8_kernel", _WHY)
