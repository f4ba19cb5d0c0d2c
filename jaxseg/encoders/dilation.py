"""Dilation in place of strides: an encoder keeps its resolution and its receptive field."""

from collections.abc import Sequence
from typing import NamedTuple


class Stage(NamedTuple):
    """How one stage of an encoder looks at its input."""

    stride: int  # of its first block
    first_dilation: int  # dilation of the first block's convolution, the one that carries the stride
    dilation: int  # dilation of all later ones


def replace_strides(strides: Sequence[int], *, stem: int, output_stride: int, dilate_first: bool) -> list[Stage]:
    """Dilates instead of striding past `output_stride` (Chen et al., 2017, arXiv:1706.05587, section 3.1).

    Two rules are in use for the convolution that loses its stride. It still sees the resolution that it was
    trained on, so torchvision and timm leave it the dilation of the stage before; smp dilates it with the
    rest of its stage.

    Args:
      strides: of each stage, when nothing is dilated.
      stem: stride in front of the first stage, in pixels.
      output_stride: the largest stride wanted, in pixels.
      dilate_first: smp's rule (True) or torchvision's (False).

    >>> replace_strides((1, 2, 2, 2), stem=4, output_stride=16, dilate_first=False)[-1]
    Stage(stride=1, first_dilation=1, dilation=2)
    >>> replace_strides((1, 2, 2, 2), stem=4, output_stride=8, dilate_first=True)[-1]
    Stage(stride=1, first_dilation=4, dilation=4)
    """
    stages, reached, dilation = [], stem, 1
    for stride in strides:
        before = dilation
        if reached * stride > output_stride:
            dilation, stride = dilation * stride, 1
        reached *= stride
        stages.append(Stage(stride, dilation if dilate_first else before, dilation))
    return stages
