"""Per-block codes."""

from ..quant import per_block_int8

__all__ = ["per_block_int8"]
