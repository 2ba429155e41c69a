"""SageAttention3 under the name it had before its release."""

from ..sageattn3 import sageattn3_blackwell as sageattn_blackwell

__all__ = ["sageattn_blackwell"]
