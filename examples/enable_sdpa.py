"""torch's own modules run on clary: a text encoder's inference, and its training. `python examples/enable_sdpa.py`

clary.enable() is a context manager too. Prints what served each part and exits 1 if a result changed.
"""

import sys

import torch

import clary


def main() -> int:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(256, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused C++ path asks for no attention
    x, y = torch.randn(2, 400, 256), torch.randn(2, 400, 256)

    def step() -> torch.Tensor:
        layer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in layer.parameters()])

    with torch.inference_mode():
        want = layer(x)
        with clary.enable("sdpa"):
            got = layer(x)
        with clary.enable("sdpa", accuracy="exact"):
            exact = layer(x)
    gradient = step()
    print("inference:", clary.stats(reset=True)["variants"])

    with clary.enable("sdpa"):
        step()  # needs gradients: torch serves it, and stats() says so
    print("training:", clary.stats(reset=True)["fallbacks"])
    with clary.enable("sdpa", grad="recompute"):
        recomputed = step()  # forward by clary, backward by torch
    print('training, grad="recompute":', clary.stats(reset=True)["variants"])

    errors = [((a - b).norm() / b.norm()).item() for a, b in ((got, want), (exact, want), (recomputed, gradient))]
    print("relative errors: standard {:.4f}, exact {:.1e}, gradients {:.4f}".format(*errors))
    return 0 if errors[0] < 0.01 and errors[1] < 1e-5 and errors[2] < 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
