"""Blocks: one figure of one paper each, written twice.

A block in lower case is the wiring of the figure: a pure function that gets its learned layers as callables, so
`aspp(x, branches, image, project)` works with layers of any library, and with lambdas in a test. The block in the
paper's spelling is the linen module that creates the layers and calls the function, e.g. `ASPP(features=256)`.

Layers             Conv, ConvTranspose, BatchNorm, GroupNorm, LayerNorm, LayerScale, ConvNormAct, SeparableConvNormAct
Context            aspp ASPP, aspp_sum ASPPSum, ppm PPM, dappm DAPPM, fpa FPA
Attention          squeeze_excite SqueezeExcite, scse SCSE, attention_gate AttentionGate, gau GAU, pab PAB, mfab MFAB,
                   scale_attention ScaleAttention, efficient_attention EfficientAttention
Pyramids           top_down, bottom_up, merge, bifpn BiFPN
U-shapes           climb, small_unet, pool_down, unpool_up
Heads              Head, FCNHead, mlp_head MLPHead
Refinement         crf CRF
"""

from jaxseg.blocks.aspp import ASPP, ASPPSum, aspp, aspp_sum
from jaxseg.blocks.attention import SCSE, SqueezeExcite, scse, squeeze_excite
from jaxseg.blocks.attention_gate import AttentionGate, attention_gate
from jaxseg.blocks.bifpn import BiFPN, bifpn
from jaxseg.blocks.conv import BatchNorm, Conv, ConvNormAct, GroupNorm
from jaxseg.blocks.crf import CRF, crf
from jaxseg.blocks.dappm import DAPPM, dappm
from jaxseg.blocks.fpa import FPA, fpa
from jaxseg.blocks.gau import GAU, gau
from jaxseg.blocks.head import FCNHead, Head
from jaxseg.blocks.layer_norm import LayerNorm, LayerScale
from jaxseg.blocks.manet import MFAB, PAB, mfab, pab
from jaxseg.blocks.mix_transformer import EfficientAttention, MixFFN, efficient_attention, mix_ffn
from jaxseg.blocks.mlp_head import MLPHead, mlp_head
from jaxseg.blocks.ppm import PPM, ppm
from jaxseg.blocks.pyramid import bottom_up, merge, top_down
from jaxseg.blocks.scale_attention import ScaleAttention, scale_attention
from jaxseg.blocks.separable import SeparableConvNormAct, separable
from jaxseg.blocks.small_unet import small_unet
from jaxseg.blocks.types import Function
from jaxseg.blocks.unet import climb
from jaxseg.blocks.unpooling import pool_down, unpool_up
from jaxseg.blocks.upsample import ConvTranspose

__all__ = [
    "ASPP",
    "CRF",
    "DAPPM",
    "FPA",
    "GAU",
    "MFAB",
    "PAB",
    "PPM",
    "SCSE",
    "ASPPSum",
    "AttentionGate",
    "BatchNorm",
    "BiFPN",
    "Conv",
    "ConvNormAct",
    "ConvTranspose",
    "EfficientAttention",
    "FCNHead",
    "Function",
    "GroupNorm",
    "Head",
    "LayerNorm",
    "LayerScale",
    "MLPHead",
    "MixFFN",
    "ScaleAttention",
    "SeparableConvNormAct",
    "SqueezeExcite",
    "aspp",
    "aspp_sum",
    "attention_gate",
    "bifpn",
    "bottom_up",
    "climb",
    "crf",
    "dappm",
    "efficient_attention",
    "fpa",
    "gau",
    "merge",
    "mfab",
    "mix_ffn",
    "mlp_head",
    "pab",
    "pool_down",
    "ppm",
    "scale_attention",
    "scse",
    "separable",
    "small_unet",
    "squeeze_excite",
    "top_down",
    "unpool_up",
]
