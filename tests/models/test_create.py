"""`create_model` and `init`."""

import inspect
import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.data import create_dataset
from jaxseg.encoders import create_encoder
from jaxseg.models import MODELS, architecture, create_model, init, pixel_statistics
from jaxseg.models.describe import describe
from jaxseg.models.names_of_peers import PEERS
from jaxseg.pretrained.convert import input_channels, variables_template

WIDTHS = {"widths": (4, 6, 8, 12, 16), "convs": 1}


def test_fields_reach_the_model_and_its_encoder():
    options = {"encoder_options": {"widths": [4, 8, 8, 8, 8]}, "dtype": "bfloat16", "output_stride": 16}
    model = create_model("unet", "plain", num_classes=2, decoder_channels=[8, 8, 8, 8, 4], **options)
    assert model.decoder.decoder_channels == (8, 8, 8, 8, 4)
    assert {part.dtype for part in (model, model.encoder, model.decoder, model.head)} == {jnp.bfloat16}
    assert (model.encoder.output_stride, model.encoder.widths) == (16, (4, 8, 8, 8, 8))
    hash(model)  # a static argument of jit
    other = create_model("unet", "plain", num_classes=2, head_dtype="float32", **options)
    assert (other.dtype, other.head_dtype, other.decoder.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)
    options["dtype"] = "float32"
    plain = create_model("unet", "plain", num_classes=2, **options)
    assert create_model("unet", "plain", num_classes=2, head_dtype="float32", **options) == plain


def test_the_output_stride_is_the_architectures_own_unless_given():
    strides = {"unet": 32, "fpn": 32, "pspnet": 8, "deeplabv3": 8, "deeplabv3plus": 16}
    for name, stride in strides.items():
        assert create_model(name, "resnet18", num_classes=2).encoder.output_stride == stride


def test_an_encoder_can_be_a_module():
    encoder = create_encoder("plain", **WIDTHS)
    assert create_model("fpn", encoder, num_classes=2).encoder is encoder
    with pytest.raises(UserError, match="Set them as the module's fields"):
        create_model("fpn", encoder, num_classes=2, output_stride=8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "unte"}, "Unknown model 'unte'. Did you mean 'unet'"),
        ({"encoder": "resnet5"}, "Did you mean 'resnet50'"),
        ({"num_classes": 0}, "at least 1, got 0"),
        ({"num_classes": 2.0}, "whole number"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"dtype": jnp.int32}, "Unknown compute type 'int32'"),
        ({"attentoin": "se"}, "Unknown option 'attentoin' of model 'unet'. Did you mean 'attention'"),
        ({"encoder_options": {"width": 3}}, "Did you mean 'widths'"),
        ({"name": "Unet"}, "Did you mean 'unet'?"),
        ({"name": "MAnet"}, "Did you mean 'manet'?"),
        ({"output_stride": 7}, "output stride 7"),
        ({"encoder_options": {"output_stride": 8}}, "an argument of create_model"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(**{"name": "unet", "encoder": "plain", "num_classes": 2, **arguments})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"decoder_channels": (8, 8)}, "has 2 entries, expected 5.*Give as many numbers, or leave the option out"),
        ({"encoder_options": {"widths": (4, 6, 8)}}, r"has 5 entries, expected 3.*is c3\. Give as many numbers\."),
        ({"attention": "sse"}, "Did you mean 'scse'"),
    ],
)
def test_mistakes_that_show_when_traced(options, message):
    with pytest.raises(UserError, match=message):
        init(create_model("unet", "plain", num_classes=2, **options), jax.random.key(0))


def test_init_makes_what_the_modules_own_init_makes():
    model = create_model("deeplabv3plus", "plain", num_classes=2, features=8, encoder_options=WIDTHS)
    key = jax.random.key(5)
    ours = init(model, key)
    theirs = model.init(key, jnp.zeros((1, 16, 16, 3)), train=False)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    chex.assert_trees_all_equal(ours, theirs)
    other = init(model, jax.random.key(6))
    assert (ours["params"]["head"]["conv"]["kernel"] != other["params"]["head"]["conv"]["kernel"]).all()


def test_init_runs_no_forward_pass():
    class Costly(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            scale = self.param("scale", nn.initializers.ones, ())
            return jax.pure_callback(lambda x: pytest.fail("the forward pass ran"), x, x) * scale

    assert init(Costly(), jax.random.key(0)) == {"params": {"scale": 1.0}, "batch_stats": {}}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            {"decoder_channels": 3},
            "The option 'decoder_channels' of model 'unet' must be a tuple of whole numbers such as",
        ),
        ({"decoder_channels": (8, "a")}, "got .8, 'a'."),
        (
            {"encoder_options": {"widths": "x"}},
            "The option 'widths' of encoder 'plain' must be a tuple of whole numbers",
        ),
        ({"center": "0.1"}, "'center' of model 'unet' must be True or False such as False, got '0.1'"),
        ({"in_channels": 0}, "in_channels must be a whole number of at least 1, got 0"),
        ({"in_channels": 4.0}, "in_channels must be a whole number of at least 1, got 4.0"),
        ({"encoder_weights": "imagenet"}, "jaxseg.pretrained.load_encoder"),
        ({"num_classes": True}, "num_classes must be a whole number"),
        ({"encoder": ["plain"]}, "Expected the name of a known encoder, got"),
        ({"dtype": 3}, "Unknown compute type 3"),
        ({"head_dtype": "float23"}, "Did you mean 'float32'"),
    ],
)
def test_arguments_of_other_types_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        create_model("unet", **{"encoder": "plain", "num_classes": 2, **arguments})


def test_channels_that_do_not_part_into_groups_are_refused():
    with pytest.raises(
        UserError, match="Group normalization in 32 groups needs channels that are a multiple of 32, got 4"
    ):
        init(create_model("fpn", "plain", num_classes=2, features=4), jax.random.key(0))


def test_options_take_what_their_annotations_say():
    assert (
        create_model("unet", "plain", num_classes=2, decoder_channels=[8, 8, 8, 8, 8]).decoder.decoder_channels
        == (8,) * 5
    )
    assert create_model("unet", "plain", num_classes=2, attention=None)
    assert create_dataset("shapes", size=np.int64(32), noise=1).classes
    with pytest.raises(
        UserError, match="The option 'size' of data set 'shapes' must be a whole number such as 128, got"
    ):
        create_dataset("shapes", size="abc")


@pytest.mark.parametrize("name", ["unet", "unetplusplus", "image_pyramid", "segnet_basic", "cunet", "patch_cnn"])
def test_the_number_of_channels_is_that_of_the_model(name):
    """In all that is made of it: variables, descriptions, statistics; another number is an error that names both."""
    encoder = {"encoder": "plain", "encoder_options": WIDTHS} if architecture(name).default_encoder else {}
    model = create_model(name, num_classes=2, in_channels=5, **encoder)
    variables = jax.eval_shape(partial(init, model), jax.random.key(0))
    chex.assert_trees_all_equal_shapes(
        variables, {"batch_stats": {}, **variables_template(model.clone(in_channels=None), 5)}
    )
    assert input_channels(model, variables) == 5
    assert pixel_statistics(model)[0] == tuple(pixel_statistics(model, 3)[0][i % 3] for i in range(5))
    described = describe(model)
    assert described["in_channels"] == 5 and "in_channels" not in described["options"]
    assert create_model(**described.pop("options"), **described) == model
    said = r"made for images of 5 channels, in_channels=5, got shape \(1, 64, 64, 3\)"
    with pytest.raises(UserError, match=said):
        jax.eval_shape(partial(init, model, in_channels=3), jax.random.key(0))
    with pytest.raises(UserError, match=said):
        jax.eval_shape(partial(model.apply, train=False), variables, jnp.zeros((1, 64, 64, 3)))


def test_a_model_of_no_number_of_channels_is_what_init_is_told():
    model = create_model("unet", "plain", num_classes=2, encoder_options=WIDTHS)
    assert "in_channels" not in describe(model)
    for told, channels in ((None, 3), (2, 2)):
        variables = jax.eval_shape(partial(init, model, in_channels=told), jax.random.key(0))
        assert variables["params"]["encoder"]["level1_conv1"]["conv"]["kernel"].shape == (3, 3, channels, 4)


@pytest.mark.parametrize(
    "name, option, said",
    [
        ("unet", {"decoder_attention_type": "scse"}, "It is called attention here"),
        ("unet", {"encoder_name": "resnet34", "classes": 3}, "It is called encoder here"),
        ("unet", {"classes": 3}, "It is called num_classes here"),
        ("unet", {"encoder_depth": 4}, r"It is called encoder_options=\{'depth': …\} here"),
        ("unet", {"activation": "sigmoid"}, "jaxseg.Predictor makes labels and probabilities"),
        ("unet", {"decoder_use_batchnorm": True}, "normalization is a part of each architecture"),
        ("unet", {"upsampling": 4}, "logits have the size of the image"),
        ("unet", {"aux_params": {"classes": 2}}, "no classifier"),
        ("pspnet", {"psp_out_channels": 512}, "It is called features here"),
        ("deeplabv3", {"decoder_channels": 256}, "It is called features here"),
        ("ddrnet", {"ppm_channels": 128}, "It is called context_features here"),
        ("fcn", {"aux_loss": True}, "It is called auxiliary=True here"),
        ("fcn", {"pretrained": True}, "jaxseg.pretrained.load_encoder"),
        ("unet", {"norm_cfg": {"type": "BN"}}, "normalization is a part of each architecture"),
        ("segnet", {"backbone": "vgg16"}, "Where a model has it, it is called encoder here; this one has not. Known: "),
        ("fpn", {"decoder_attention_type": "scse"}, "it is called attention here; this one has not"),
    ],
)
def test_what_other_libraries_call_it_is_answered_with_what_it_is_called_here(name, option, said):
    with pytest.raises(UserError, match=f"Unknown option '{next(iter(option))}' of model '{name}'.*{said}"):
        create_model(name, **option)


def test_every_name_of_a_peer_leads_to_something_that_some_model_takes():
    common = set(inspect.signature(create_model).parameters)
    taken = common.union(*(inspect.signature(entry).parameters for entry in MODELS.values()))
    for name, here in PEERS.items():
        for keyword in () if isinstance(here, str) else here:
            assert keyword.partition("=")[0] in taken, f"{name} is called {keyword}, which no model takes"


def test_what_is_known_is_all_that_is_taken():
    with pytest.raises(UserError, match="Known: (.*)[.]") as caught:
        create_model("unet", num_classes=2, bogus=1)
    known = re.search("Known: (.*)[.]", str(caught.value))[1].split(", ")
    assert {"in_channels", "head_dtype", "output_stride", "encoder_options", "attention", "encoder"} <= set(known)
    with pytest.raises(UserError) as caught:
        create_model("segnet", num_classes=2, bogus=1)
    assert "output_stride" not in str(caught.value) and "in_channels" in str(caught.value)


@pytest.mark.parametrize(
    "name, options, said",
    [
        (
            "unet",
            {"decoder_channels": (256, 0, 64, 32, 16)},
            "'decoder_channels' .* whole numbers of at least 1, got .256",
        ),
        ("manet", {"decoder_channels": (256, 128, 64, 32, -16)}, "must hold whole numbers of at least 1"),
        ("pspnet", {"features": 0}, "'features' of model 'pspnet' must be a whole number of at least 1, got 0"),
        ("deeplabv2", {"hidden": -1}, "'hidden' .* at least 0, got -1"),
        ("segnet", {"convs": (2, 2, 3, 3, 0)}, "'convs' .* at least 1"),
        ("fpn", {"dropout": 1.5}, "'dropout' .* must be a number from 0 to 1, got 1.5"),
        ("image_pyramid", {"scales": (1.0, -0.5)}, "'scales' .* must hold numbers above 0"),
        ("image_pyramid", {"scales": ()}, "at least one of `scales`"),
        ("image_pyramid", {"architecture_options": {"rates": (0,)}}, "'rates' of model 'deeplabv2'"),
        ("unet", {"encoder_options": {"widths": (4, 6, -8, 12, 16)}}, "'widths' of encoder 'plain'"),
        ("unet", {"encoder": "resnet18", "encoder_options": {"blocks": (2, 2, 2)}}, "a tuple of 4 whole numbers"),
        ("unet", {"encoder": "efficientnet_b0", "encoder_options": {"drop_path": -0.1}}, "from 0 to 1, got -0.1"),
    ],
)
def test_numbers_out_of_their_range_are_refused(name, options, said):
    with pytest.raises(UserError, match=said):
        create_model(name, **{"encoder": "" if name == "segnet" else "plain", "num_classes": 2, **options})


def test_a_model_can_do_without_some_layers():
    assert create_model("deeplabv2", num_classes=2, hidden=0) == create_model("deeplabv2", num_classes=2)
    assert create_model("bifpn", num_classes=2, repeats=0).decoder.repeats == 0
    assert create_model("cunet", num_classes=2, order=0).order == 0


@pytest.mark.parametrize(
    "name, widths, options, said",
    [
        (
            "pspnet",
            (4, 6, 8, 12),
            {},
            "'c5'. Known: c1, c2, c3, c4. Choose an encoder of more levels, or set level to one",
        ),
        ("pspnet", (4, 6), {"level": "c2"}, "'c4'. Known: c1, c2. Choose .*, or leave the .* out: auxiliary=False."),
        ("fcn", (4, 6), {}, "Unknown level of the encoder 'c5'. Known: c1, c2. Choose an encoder of more levels."),
        ("lraspp", (4, 6, 8, 12, 4), {"fine_level": "c6"}, "'c6'. Known: .*, or set fine_level to one of these."),
        ("pspnet", (4, 6, 8, 12, 3), {}, "4 bins parts the channels .* got features of 3"),
        ("pspnet", WIDTHS["widths"], {"bins": ()}, "`bins` must hold at least 1 number"),
        ("upernet", WIDTHS["widths"], {"bins": (1, 2, 2)}, "`bins` must hold no number twice, got .1, 2, 2"),
        ("deeplabv3", WIDTHS["widths"], {"rates": (6, 6)}, "`rates` must hold no number twice"),
        ("deeplabv2", WIDTHS["widths"], {"rates": ()}, "`rates` must hold at least 1 number"),
        ("segformer", WIDTHS["widths"], {"levels": ("c9",)}, "needs the encoder's c2 and at least one of `levels`"),
        ("segformer", (4,), {}, "needs the encoder's c2"),
        ("fpn", (4, 6), {}, "An FPN needs an encoder of at least 3 levels, .* is c2"),
        ("pan", (4,), {}, "A PAN needs an encoder of at least 2 levels"),
        ("upernet", (4,), {}, "A UPerNet needs an encoder of at least 2 levels"),
    ],
)
def test_what_a_decoder_cannot_be_made_of_is_said_when_traced(name, widths, options, said):
    model = create_model(name, "plain", num_classes=2, encoder_options={"widths": widths, "convs": 1}, **options)
    with pytest.raises(UserError, match=said):
        init(model, jax.random.key(0))
