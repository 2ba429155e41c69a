"""Attention on packed per-block codes: refused."""

from ..._private import refused

forward = refused("forward", "clary takes packed sequences unquantised. Call sageattn_varlen.")
