"""Attention on per-block codes, causal."""

from .._kernels import forward as _forward

forward = _forward(is_causal=True)
