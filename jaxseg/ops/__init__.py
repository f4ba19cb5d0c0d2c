"""Operations: pure functions on arrays, without parameters and without a framework.

Images and features are [batch, height, width, channels]; sizes, strides and offsets are (height, width). Padding is
explicit and symmetric, resizing follows one convention (half-pixel centers), and what is masked has an argument
`where`. All of them work under `jax.jit`, `jax.grad` and `jax.vmap`.

Convolution        conv2d, conv_transpose1d, conv_transpose2d
Pooling            max_pool, avg_pool, adaptive_avg_pool, global_avg_pool
Resizing           resize, resize_like, repeat
Upsampling         nearest, bilinear, bed_of_nails, max_pool_with_positions, max_unpool, bilinear_kernel
Attention          dot_product_attention
Activations        gelu
Distances          distance_transform, squared_distance_transform, signed_distance, two_nearest
Morphology         erode, dilate, soft_skeleton, connected_components
Refinement         dense_crf, mean_field, guided_filter
Sampling           crop_coordinates, elastic_displacement, sample_bilinear, sample_nearest
Tiling             map_tiles, tile_starts
Pixel values       normalize
"""

from jaxseg.ops.activations import gelu
from jaxseg.ops.attention import dot_product_attention
from jaxseg.ops.components import connected_components
from jaxseg.ops.conv import conv2d
from jaxseg.ops.distance import distance_transform, signed_distance, squared_distance_transform, two_nearest
from jaxseg.ops.guided_filter import guided_filter
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.meanfield import dense_crf, mean_field
from jaxseg.ops.morphology import dilate, erode, soft_skeleton
from jaxseg.ops.normalize import normalize
from jaxseg.ops.pool import adaptive_avg_pool, avg_pool, global_avg_pool
from jaxseg.ops.resize import repeat, resize, resize_like
from jaxseg.ops.tiling import map_tiles, tile_starts
from jaxseg.ops.transposed import conv_transpose1d, conv_transpose2d
from jaxseg.ops.upsample import bed_of_nails, bilinear, bilinear_kernel, max_pool_with_positions, max_unpool, nearest
from jaxseg.ops.warp import crop_coordinates, elastic_displacement, sample_bilinear, sample_nearest

__all__ = [
    "adaptive_avg_pool",
    "avg_pool",
    "bed_of_nails",
    "bilinear",
    "bilinear_kernel",
    "connected_components",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "crop_coordinates",
    "dense_crf",
    "dilate",
    "distance_transform",
    "dot_product_attention",
    "elastic_displacement",
    "erode",
    "gelu",
    "global_avg_pool",
    "guided_filter",
    "map_tiles",
    "max_pool",
    "max_pool_with_positions",
    "max_unpool",
    "mean_field",
    "nearest",
    "normalize",
    "repeat",
    "resize",
    "resize_like",
    "sample_bilinear",
    "sample_nearest",
    "signed_distance",
    "soft_skeleton",
    "squared_distance_transform",
    "tile_starts",
    "two_nearest",
]
