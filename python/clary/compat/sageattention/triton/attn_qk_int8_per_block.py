"""Attention on per-block codes."""

from .._kernels import forward as _forward

forward = _forward(is_causal=False)
