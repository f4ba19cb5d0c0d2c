"""What is particular to ResNet."""

import pytest

from jaxseg.encoders import create_encoder
from jaxseg.encoders.dilation import replace_strides


@pytest.mark.parametrize("output_stride, base", [(16, 2), (8, 4)])
def test_multi_grid_multiplies_the_rates_of_the_last_stage(output_stride, base):
    """DeepLabV3, section 3.2.1: at output stride 16 the rates of (1, 2, 4) are 2 x (1, 2, 4) = (2, 4, 8)."""
    encoder = create_encoder("resnet50", output_stride=output_stride, multi_grid=(1, 2, 4))
    stages = replace_strides((1, 2, 2, 2), stem=4, output_stride=output_stride, dilate_first=True)
    assert [rates[0] for rates in encoder._dilations(4, stages[3])] == [base, 2 * base, 4 * base]
    assert set(encoder._dilations(1, stages[0])) == {(1, 1)}
