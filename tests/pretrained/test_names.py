"""Names of encoders and of their weights in other libraries."""

import pytest
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.pretrained import smp_encoder, timm_encoder
from jaxseg.pretrained.convert import variables_template
from jaxseg.pretrained.names import FAMILIES, find_source, find_sources
from jaxseg.pretrained.names.inverted_residual import flat_index

PUBLISHED = [name for name in ENCODERS if type(create_encoder(name)) in FAMILIES]
# The first of each class, and one of every other way that names are made; that larger ones fit, tests/parity asks.
FIRST = {getattr(ENCODERS[name], "make", ENCODERS[name]): name for name in reversed(PUBLISHED)}
SMALL = sorted({*FIRST.values(), "resnet50", "vgg11_bn", "mobilenet_v3_small"})


@pytest.mark.parametrize(
    "name, encoder, library, options",
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
def test_names_of_smp(name, encoder, library, options):
    origin = smp_encoder(name)
    assert (origin.encoder, origin.library) == (encoder, library)
    assert options.items() <= origin.options.items()


def test_a_name_of_both_libraries_is_told_by_its_weights():
    assert smp_encoder("resnet34", by_timm=True) == smp_encoder("tu-resnet34")


def test_the_tag_of_timms_weights_makes_no_difference():
    assert timm_encoder("tf_mobilenetv3_large_100.in1k") == timm_encoder("tf_mobilenetv3_large_100")
    assert timm_encoder("mobilenetv2_100").options["last_conv"] is False


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_options_of_every_encoder_are_fields_of_it(name):
    known = find_sources(create_encoder(name), name)
    for library, origin in (("smp", smp_encoder), ("timm", timm_encoder)):
        if library in known:
            create_encoder(origin(name).encoder, **origin(name).options)
        else:
            with pytest.raises(UserError, match=f"{library} has no encoder '{name}'"):
                origin(name)


@pytest.mark.parametrize("name", SMALL)
def test_every_module_has_a_name_of_its_own_in_every_library(name):
    encoder = create_encoder(name)
    modules = {path[1:-1] for path in flatten_dict(variables_template(encoder))}
    for library, source in find_sources(encoder, name).items():
        names = {source.key(path) for path in modules}
        assert len(names) == len(modules), f"{library}: two modules have one name"
        outside = [key for key in names if key.startswith(source.head)]
        assert not outside, f"{library}: {outside} begin as the head does, and would not be asked for"


def test_every_published_encoder_has_its_family():
    assert {type(create_encoder(name)) for name in PUBLISHED} == set(FAMILIES)
    with pytest.raises(UserError, match="no published weights"):
        find_sources(create_encoder("plain"), "plain")
    with pytest.raises(UserError, match="torchvision has no encoder 'mit_b0': .* names of smp"):
        find_source(create_encoder("mit_b0"), "mit_b0", "torchvision")


def test_blocks_are_counted_through():
    stages = create_encoder("mobilenet_v3_large").stages
    names = [f"stage{s}_block{b}" for s, stage in enumerate(stages) for b in range(len(stage))]
    assert [flat_index(stages, name) for name in names] == list(range(15))
