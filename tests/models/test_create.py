"""`create_model` and `init`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.data import create_dataset
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model, init

WIDTHS = {"widths": (4, 6, 8, 12, 16), "convs": 1}


def test_fields_reach_the_model_and_its_encoder():
    options = {"encoder_options": {"widths": [4, 8, 8, 8, 8]}, "dtype": "bfloat16", "output_stride": 16}
    model = create_model("unet", "plain", num_classes=2, decoder_channels=[8, 8, 8, 8, 4], **options)
    assert model.decoder.decoder_channels == (8, 8, 8, 8, 4)
    assert {part.dtype for part in (model, model.encoder, model.decoder, model.head)} == {jnp.bfloat16}
    assert (model.encoder.output_stride, model.encoder.widths) == (16, (4, 8, 8, 8, 8))
    hash(model)  # a static argument of jit


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
        ({"output_stride": 7}, "output stride 7"),
        ({"encoder_options": {"output_stride": 8}}, "an argument of create_model"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(**{"name": "unet", "encoder": "plain", "num_classes": 2, **arguments})


@pytest.mark.parametrize(
    "options, message",
    [({"decoder_channels": (8, 8)}, "has 2 entries, expected 5"), ({"attention": "sse"}, "Did you mean 'scse'")],
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
        ({"in_channels": 4}, r"Give in_channels to jaxseg.init: init\(model, key, in_channels=4\)"),
        ({"encoder_weights": "imagenet"}, "jaxseg.pretrained.load_encoder"),
        ({"num_classes": True}, "num_classes must be a whole number"),
        ({"encoder": ["plain"]}, "Expected the name of a known encoder, got"),
        ({"dtype": 3}, "Unknown compute type 3"),
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
