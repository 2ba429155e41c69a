"""The operators of _qattn_sm89, under the module that wraps them for torch.compile."""

from ._qattn_sm89 import (
    qk_int8_sv_f8_accum_f16_attn_inst_buf,
    qk_int8_sv_f8_accum_f16_fuse_v_scale_attn_inst_buf,
    qk_int8_sv_f8_accum_f32_attn,
    qk_int8_sv_f8_accum_f32_attn_inst_buf,
    qk_int8_sv_f8_accum_f32_fuse_v_scale_attn,
    qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf,
    qk_int8_sv_f8_accum_f32_fuse_v_scale_fuse_v_mean_attn,
)

__all__ = [
    "qk_int8_sv_f8_accum_f32_attn",
    "qk_int8_sv_f8_accum_f32_attn_inst_buf",
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn",
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_fuse_v_mean_attn",
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf",
    "qk_int8_sv_f8_accum_f16_attn_inst_buf",
    "qk_int8_sv_f8_accum_f16_fuse_v_scale_attn_inst_buf",
]
