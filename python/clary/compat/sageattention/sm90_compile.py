"""The operators of _qattn_sm90, under the module that wraps them for torch.compile."""

from ._qattn_sm90 import (
    qk_int8_sv_f8_accum_f32_attn_inst_buf,
    qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf,
)

__all__ = [
    "qk_int8_sv_f8_accum_f32_attn_inst_buf",
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf",
]
