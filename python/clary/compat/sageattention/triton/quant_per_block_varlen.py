"""Packed per-block codes: refused."""

from ..._private import refused

per_block_int8 = refused("per_block_int8", "clary takes packed sequences unquantised. Call sageattn_varlen.")
