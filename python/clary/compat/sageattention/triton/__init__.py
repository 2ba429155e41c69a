"""Upstream's Triton modules by name. Nothing here is, or needs, Triton."""
