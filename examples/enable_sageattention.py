"""A program written for SageAttention runs on clary by its first two lines. `python examples/enable_sageattention.py`

Without those lines: CLARY_ENABLE=sageattention python program.py. Prints one line and exits 1 if the picture changed.
"""

import clary

clary.enable("sageattention")  # before the program imports it

# ---- the program, as it was -------------------------------------------------------------------------------------------

import sys  # noqa: E402

import torch  # noqa: E402
from sageattention import sageattn  # noqa: E402


class Block(torch.nn.Module):
    """A transformer block of a video model: tokens [B, L, H D], a mask over the text's padding."""

    def __init__(self, heads: int = 4, head_dim: int = 64) -> None:
        super().__init__()
        width = heads * head_dim
        self.heads, self.qkv, self.out = heads, torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, attention=sageattn) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).unbind(2)  # [B, L, H, D], views of one tensor
        return self.out(attention(q, k, v, tensor_layout="NHD", attn_mask=mask).flatten(2))


def torchs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tensor_layout: str, attn_mask: torch.Tensor):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask).transpose(1, 2)


@torch.inference_mode()
def main() -> int:
    torch.manual_seed(0)
    block, x = Block(), torch.randn(2, 600, 256)
    mask = torch.arange(600) < torch.tensor([[560], [600]])  # [B, L]: of the first batch entry, 40 tokens are padding
    mask = mask[:, None, None]
    got, want = block(x, mask), block(x, mask, torchs)
    error = ((got - want).norm() / want.norm()).item()
    print(f"relative error {error:.4f}; {clary.stats()['variants']}")
    return 0 if error < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
