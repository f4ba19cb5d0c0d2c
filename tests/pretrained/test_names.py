"""What timm and smp call the encoders."""

import pytest

from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.pretrained import smp_encoder, timm_encoder


@pytest.mark.parametrize(
    "name, encoder, source, options",
    [
        ("resnet34", "resnet34", "smp", {}),
        ("tu-resnet34", "resnet34", "timm", {"dilate_first": False}),
        ("mobilenet_v2", "mobilenet_v2", "smp", {}),
        ("efficientnet-b1", "efficientnet_b1", "smp", {"padding": 240, "epsilon": 1e-3, "early_levels": ("c1",)}),
        ("efficientnet-b7", "efficientnet_b7", "smp", {"padding": 600, "momentum": 0.99, "dilate_first": True}),
        ("timm-efficientnet-b0", "efficientnet_b0", "timm", {"padding": "symmetric", "dilate_first": True}),
        ("timm-tf_efficientnet_lite0", "efficientnet_lite0", "timm", {"padding": "symmetric", "epsilon": 1e-5}),
        ("tu-tf_efficientnet_lite0", "efficientnet_lite0", "timm", {"padding": "tensorflow", "epsilon": 1e-3}),
        ("timm-mobilenetv3_large_100", "mobilenet_v3_large", "timm", {"padding": "tensorflow", "momentum": 0.9}),
    ],
)
def test_names_of_smp(name, encoder, source, options):
    origin = smp_encoder(name)
    assert (origin.encoder, origin.source) == (encoder, source)
    assert options.items() <= origin.options.items()


def test_a_name_of_both_libraries_is_told_by_its_weights():
    assert smp_encoder("resnet34", by_timm=True) == smp_encoder("tu-resnet34")


def test_the_tag_of_timms_weights_makes_no_difference():
    assert timm_encoder("tf_mobilenetv3_large_100.in1k") == timm_encoder("tf_mobilenetv3_large_100")
    assert timm_encoder("mobilenetv2_100").options["last_conv"] is False


@pytest.mark.parametrize("name", [name for name in ENCODERS if hasattr(create_encoder(name), "torch_key")])
def test_the_options_of_every_encoder_are_fields_of_it(name):
    for origin in (smp_encoder(name), timm_encoder(name)):
        create_encoder(origin.encoder, **origin.options)
