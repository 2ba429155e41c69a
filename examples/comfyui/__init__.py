"""A ComfyUI node that runs a model's attention on clary: copy this folder into ComfyUI/custom_nodes and restart.

The node is model/patch/Clary Attention. It changes the model that goes through it and no other, and nothing when bypassed.
"""

import clary

ACCURACIES = ["standard", "high", "exact", "fast"]


def override(accuracy):
    """What ComfyUI calls in the place of its own attention, `original`."""

    def attend(
        original,
        q,
        k,
        v,
        heads,
        mask=None,
        attn_precision=None,
        skip_reshape=False,
        skip_output_reshape=False,
        **options,
    ):
        """q, k, v [B, L, H * D], or with skip_reshape [B, H, L, D] -> [B, L, H * D], or with skip_output_reshape [B, H, L, D]."""
        if options.get("low_precision_attention", True) is False:  # the model says that it would show
            return original(q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape, **options)
        if skip_reshape:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        else:
            head_dim = q.shape[-1] // heads
            q, k, v = (x.unflatten(-1, (-1, head_dim)) for x in (q, k, v))  # fewer heads of k and v are fine
        if mask is not None and mask.dim() == 3:  # [B, Lq, Lk]
            mask = mask[:, None]
        out = clary.attention(q, k, v, layout="NHD", mask=mask, scale=options.get("scale"), accuracy=accuracy)
        return out.transpose(1, 2) if skip_output_reshape else out.flatten(2)

    return attend


class ClaryAttention:
    CATEGORY, FUNCTION, RETURN_TYPES = "model/patch", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "accuracy": (ACCURACIES,)}}

    def patch(self, model, accuracy):
        model = model.clone()
        options = model.model_options.get("transformer_options", {})
        model.model_options["transformer_options"] = {**options, "optimized_attention_override": override(accuracy)}
        return (model,)


NODE_CLASS_MAPPINGS = {"ClaryAttention": ClaryAttention}
NODE_DISPLAY_NAME_MAPPINGS = {"ClaryAttention": "Clary Attention"}
