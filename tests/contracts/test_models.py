"""Every model keeps the contract of `jaxseg.models`, on a small encoder."""

import inspect
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.blocks.conv import Conv
from jaxseg.blocks.upsample import ConvTranspose
from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.models import MODELS, architecture, create_model, init
from jaxseg.models.describe import describe
from jaxseg.variants import defaults

ROOT = Path(__file__).parent.parent.parent
CLASSES = 3
SIZE = (48, 64)
EAGER = {"unet", "deeplabv3plus", "pan", "segformer"}  # run without jit, too


OPTIONS = {  # model -> what makes it small
    "deeplabv1": {"features": 64},
    "deeplabv3_cascade": {"blocks": 1},
    "image_pyramid": {"features": 32, "scales": (1.0, 0.5)},
    "bifpn": {"pyramid_features": 32, "repeats": 2, "features": 32, "convs": 1},
    "fcn32s": {"features": 32},
    "fcn16s": {"features": 32},
    "fcn8s": {"features": 32},
    "unet_original": {"widths": (4, 6, 8)},
    **{
        name: {"features": 6, "stem_features": 6, "widths": (8, 8), "counts": (1, 1), "every_stage": True}
        for name in ("stacked_unet", "stacked_unet_128", "stacked_unet_7_128")
    },
    "cunet": {"units": 2, "features": 8, "growth": 4},
    "patch_cnn": {"widths": (6, 8), "kernel_sizes": (4, 3), "positions": 2, "hidden": 16},
    "segnet": {"widths": (4, 6, 8), "convs": (1, 2, 2)},
    "segnet_basic": {"widths": (8, 8, 8), "convs": (1, 1, 1)},
    "ddrnet": {"features": 8, "context_features": 16, "head_features": 16},
    "deconvnet": {"widths": (4, 6, 8), "convs": (1, 2, 2), "features": 16, "kernel_size": 3},
    "manet": {"reduction": 1},  # a squeezed channel or two are soon dead
}


def has_encoder(name):
    own = architecture(name)
    takes_one = "encoder" in inspect.signature(own).parameters
    needed = ["default_encoder", *(["default_output_stride"] if takes_one else ["pixel_mean", "pixel_std", "stem"])]
    missing = [attribute for attribute in needed if not hasattr(own, attribute)]
    assert not missing, f"the entry '{name}' lacks {missing}, see the docstring of jaxseg.models"
    return own.default_encoder is not None


WITH_ENCODER = [name for name in MODELS if has_encoder(name)]


def tiny(name, **options):
    options = OPTIONS.get(name, {}) | options
    if not has_encoder(name):
        return create_model(name, num_classes=CLASSES, **options)
    encoder_options = {"widths": (8, 8, 8, 16, 32), "convs": 1}
    return create_model(name, "plain", num_classes=CLASSES, encoder_options=encoder_options, **options)


def distinct():
    """The names without those that are another entry again once both are small."""
    models = {}
    for name in MODELS:
        models.setdefault(tiny(name), name)
    return list(models.values())


@pytest.fixture(scope="module", params=distinct())
def case(request):
    """A model, its variables, three images, and its two compiled uses."""
    model = tiny(request.param)

    @jax.jit
    def evaluate(variables, images):
        return model.apply(variables, images, train=False, mutable=["batch_stats"])

    @jax.jit
    def train(variables, images, key):
        @jax.checkpoint  # which must do no harm: the forward pass runs again on the way back
        def loss(params):
            outputs, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
            weights = jax.random.normal(jax.random.key(7), outputs["logits"].shape)  # no direction is special
            return sum((weights * head).sum() for head in outputs.values()), (outputs, updates)

        return jax.grad(loss, has_aux=True)(variables["params"])

    images = jax.random.normal(jax.random.key(1), (3, *SIZE, 3))
    return SimpleNamespace(
        name=request.param,
        model=model,
        variables=init(model, jax.random.key(0)),
        images=images,
        evaluate=evaluate,
        train=train,
    )


def shapes(model, variables, images, train=False):
    def apply(variables, images):
        outputs, _ = model.apply(
            variables, images, train=train, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        )
        assert isinstance(outputs, dict), 'a model returns a dict: {"logits": …}, and further heads under further keys'
        return outputs

    return jax.eval_shape(apply, variables, images)


@pytest.mark.parametrize("size", [SIZE, (33, 17), (5, 1), (1, 1)])
def test_logits_are_float32_at_the_images_own_size(case, size):
    dtype, train = ("bfloat16", True) if size == SIZE else ("float32", False)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    outputs = shapes(tiny(case.name, dtype=dtype), case.variables, images, train)
    assert "logits" in outputs
    for key, logits in outputs.items():
        found = (logits.shape, logits.dtype)
        assert found == ((2, *size, CLASSES), jnp.float32), f"{key} is not float32 at the image's own size"


def test_a_type_for_the_scores_is_that_of_the_last_convolutions_alone(case):
    found = set()

    def note(call, args, kwargs, context):
        if isinstance(context.module, Conv | ConvTranspose):
            found.add((context.module.features == CLASSES, context.module.dtype))
        return call(*args, **kwargs)

    model = tiny(case.name, dtype="bfloat16", head_dtype="float32")
    with nn.intercept_methods(note):
        shapes(model, case.variables, case.images)
    assert found == {(False, jnp.bfloat16), (True, jnp.float32)}, "(whether it makes scores, its type)"
    assert describe(model) == describe(case.model), "a description has no compute types"


@pytest.mark.parametrize("output_stride", [8, 32])
@pytest.mark.parametrize("name", WITH_ENCODER)
def test_any_output_stride(name, output_stride):
    model = tiny(name, output_stride=output_stride)
    outputs, _ = jax.eval_shape(
        partial(model.init_with_output, train=False), jax.random.key(0), jnp.zeros((1, *SIZE, 3))
    )
    assert outputs["logits"].shape == (1, *SIZE, CLASSES)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_a_model_can_be_taken_apart_between_encoder_and_decoder(name):
    def apart(key, images):
        variables = model.init(key, images, train=False)
        levels = model.apply(variables, images, train=False, method="encode")
        features = model.encoder.apply({k: v["encoder"] for k, v in variables.items()}, images, train=False)
        outputs = model.apply(variables, levels, SIZE, train=False, method="decode")
        return levels, features, outputs, model.apply(variables, images, train=False)

    model = tiny(name)
    levels, features, outputs, whole = jax.eval_shape(apart, jax.random.key(0), jnp.zeros((1, *SIZE, 3)))
    assert levels == features
    assert list(levels) == ["c1", "c2", "c3", "c4", "c5"]
    assert outputs.items() <= whole.items(), "`decode` of what `encode` gives is not what the whole gives"
    assert "logits" in outputs


@pytest.mark.parametrize(
    "shape, dtype, said",
    [
        ((1, 8, 8, 3), jnp.uint8, "got uint8"),
        ((8, 8, 3), jnp.float32, "Add the batch axis"),
        ((1, 8, 8, 4), jnp.float32, "for images of 3 channels, got shape"),
        ((1, 8, 0, 3), jnp.float32, "at least one pixel"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_in_a_sentence(case, shape, dtype, said):
    with pytest.raises(UserError, match=said):
        jax.eval_shape(partial(case.model.apply, train=False), case.variables, jax.ShapeDtypeStruct(shape, dtype))


def count(variables):
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


@cache
def count_encoder(name):
    encoder = create_encoder(name)
    return count(jax.eval_shape(partial(encoder.init, train=False), jax.random.key(0), jnp.zeros((1, 32, 32, 3))))


@pytest.mark.parametrize("name", MODELS)
def test_its_size_is_that_of_the_docs_and_any_encoder_will_do(name):
    encoder = ("resnet18",) if has_encoder(name) else ()
    model = create_model(name, *encoder, num_classes=19)
    images = jnp.zeros((1, 33, 50, 3))
    outputs, variables = jax.eval_shape(partial(model.init_with_output, train=False), jax.random.key(0), images)
    assert outputs["logits"].shape == (1, 33, 50, 19)
    # The levels of a ResNet-34 are as wide as those of a ResNet-18, so that the rest of the model is the same.
    size = count(variables) + (count_encoder("resnet34") - count_encoder("resnet18") if encoder else 0)
    lines = (ROOT / "docs" / "models.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith(f"| `{name}` | ")]
    command = f"jaxseg show {name} --classes 19" + (" --encoder resnet34" if encoder else "")
    assert rows, f"docs/models.md has no row for '{name}'; `{command}` counts its {size:,} parameters"
    assert f" {size:,} " in rows[0], f"`{command}` counts {size:,} parameters, docs/models.md has another number"


def test_parameters_are_float32_and_in_named_parts(case):
    outputs = shapes(case.model, case.variables, case.images)
    assert set(case.variables) == {"params", "batch_stats"}
    strange = set(case.variables["params"]) - {"encoder", "decoder", "head", "attention", *outputs}
    assert not strange, f'parts are named "encoder", "decoder", "head" and as further heads are, not {strange}'
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(case.variables)}
    assert dtypes == {jnp.dtype("float32")}, f"parameters are float32, whatever the compute type, got {dtypes}"
    keys = {key.key for path, _ in jax.tree.leaves_with_path(case.variables) for key in path}
    nameless = {key for key in keys if "_" in key and key[0].isupper()}
    assert not nameless, f"modules without a name of their own (`name=`): {nameless}"


def test_every_output_is_listed_in_the_docstring(case):
    _, _, listed = inspect.getdoc(MODELS[case.name]).partition("Outputs:")
    missing = {name for name in shapes(case.model, case.variables, case.images) if f'"{name}"' not in listed}
    assert not missing, f'the last paragraph of the docstring is `Outputs: "logits", ….`; it does not list {missing}'


def test_evaluation_is_a_function_of_the_variables_and_the_one_image(case):
    outputs, updates = case.evaluate(case.variables, case.images)
    chex.assert_trees_all_equal(updates["batch_stats"], case.variables["batch_stats"])
    others = case.images[jnp.array([0, 2, 2])]
    again, _ = case.evaluate(case.variables, others)
    alone = "the result of an image depends on the others of its batch"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[0], 1e-5, 1e-5, err_msg=alone), outputs, again)
    apart = np.abs(outputs["logits"][0] - outputs["logits"][1]).max()
    assert apart > 1e-3, f"the logits of two images differ by {apart}: the image hardly reaches them"


def test_a_batch_equals_one_image_at_a_time_by_vmap(case):
    batch, _ = case.evaluate(case.variables, case.images)
    each = jax.vmap(lambda image: case.model.apply(case.variables, image[None], train=False))
    # Without jit every operation is a program, of which most are those of another model: one of each kind will do.
    single = (each if case.name in EAGER else jax.jit(each))(case.images)
    for name in batch:
        scale = np.abs(batch[name]).max()
        np.testing.assert_allclose(single[name][:, 0] / scale, batch[name] / scale, atol=1e-5)


def test_training_reaches_every_parameter_and_statistic(case):
    gradients, (_, updates) = case.train(case.variables, case.images, jax.random.key(0))
    for path, gradient in jax.tree.leaves_with_path(gradients):
        where = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), f"the gradient of {where} is not finite"
        assert np.abs(gradient).max() > 0, f"nothing reaches {where}: unused, or dead ReLUs, see OPTIONS"
    old, new = (jax.tree.leaves_with_path(s["batch_stats"]) for s in (case.variables, updates))
    for (path, before), (_, after) in zip(old, new, strict=True):
        assert np.abs(after - before).max() > 0, f"training leaves the statistics {jax.tree_util.keystr(path)} alone"


def test_training_is_repeatable_by_the_dropout_key(case):
    keys = [jax.random.key(n) for n in (0, 0, 1)]
    first, again, other = (case.train(case.variables, case.images, key)[1][0]["logits"] for key in keys)
    np.testing.assert_array_equal(first, again)
    draws = defaults(MODELS[case.name]).get("dropout", 0) > 0
    differs = np.abs(first - other).max() > 0
    assert differs == draws, "the dropout key makes a difference exactly where the model's default `dropout` is above 0"
