"""Ensembles and dropout: the maps equal their definitions, and members are what they are alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import special, stats

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference import Ensemble
from jaxseg.inference.uncertainty import dropout_logits, uncertainty
from jaxseg.trained import TrainedModel

MEAN, STD = (0.0,) * 3, (50.0,) * 3


class Net(nn.Module):
    """Batch normalization, which must stay in evaluation, and dropout, which must not."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(self.rate)(x, deterministic=not train)
        return {"logits": nn.Dense(3, name="head")(x)}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def test_maps_equal_their_definitions():
    p = np.random.default_rng(0).dirichlet(np.ones(4), (5, 1, 2, 3)).astype(np.float32)
    p[0, 0, 0, 0] = [1, 0, 0, 0]
    p[:, 0, 0, 1] = p[0, 0, 0, 1]  # all alike
    maps = jax.jit(uncertainty)(p)
    entropy = stats.entropy(p.mean(0), axis=-1)
    np.testing.assert_allclose(maps["probabilities"], p.mean(0), rtol=1e-6)
    np.testing.assert_allclose(maps["entropy"], entropy, rtol=1e-6)
    np.testing.assert_allclose(maps["mutual_information"], entropy - stats.entropy(p, axis=-1).mean(0), atol=1e-6)
    assert maps["mutual_information"][0, 0, 1] < 1e-6
    with pytest.raises(UserError, match="of n opinions, got shape"):
        uncertainty(jnp.ones((1, 2, 3, 4)))


def test_dropout_trains_alone(image):
    model, samples = Net(), 400
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 2, 2, 3)), train=False))(jax.random.key(0))
    logits = jax.jit(dropout_logits(model, Preprocessing(MEAN, STD), samples=samples))(variables, image[None])
    assert logits.shape == (samples, 1, 5, 6, 3)
    x = image / 50.0 / np.sqrt(1 + 1e-5)  # the running statistics of a new model are 0 and 1
    kernel = np.asarray(variables["params"]["head"]["kernel"])
    single = (2 * x)[..., :, None] * kernel  # with a rate of 1/2, what is left counts twice
    left = [np.multiply.outer(bits, np.ones(3)) for bits in np.ndindex(2, 2, 2)]
    possible = np.stack([(single * bits).sum(-2) for bits in left])
    gaps = np.abs(np.asarray(logits)[:, 0, ..., None, :] - np.moveaxis(possible, 0, -2)).max(-1).min(-1)
    assert gaps.max() < 1e-4, "a sample is no dropout of the evaluated model"
    np.testing.assert_allclose(logits.mean(0)[0], x @ kernel, atol=5 * np.abs(single).max() / np.sqrt(samples))
    few = [jax.jit(dropout_logits(model, Preprocessing(MEAN, STD), samples=1, seed=seed)) for seed in (3, 4)]
    assert (few[0](variables, image[None]) != few[1](variables, image[None])).any()
    with pytest.raises(UserError, match="Net has no dropout"):
        jax.eval_shape(dropout_logits(Net(rate=0.0), Preprocessing(MEAN, STD), samples=2), variables, image[None])
    with pytest.raises(UserError, match="`samples` must be at least 1"):
        dropout_logits(model, Preprocessing(MEAN, STD), samples=0)


FIELDS = dict(preprocessing=Preprocessing(MEAN, STD, bucket=8), palette=((0, 0, 0),) * 3, ignore=255)


def test_ensemble_crops_and_compiles_once_a_bucket(image):
    class Gain:
        def __init__(self):
            self.compiled = []

        def apply(self, variables, images, *, train):
            self.compiled.append(images.shape)
            return {"logits": variables["gain"] * images}

    model = Gain()
    members = [TrainedModel(model, {"gain": np.float32(g)}, classes=tuple("abc"), **FIELDS) for g in (1, 2)]
    ensemble = Ensemble(members, bucket=4)
    p = np.mean([special.softmax(gain * (image / 50.0), -1) for gain in (1, 2)], 0)
    np.testing.assert_allclose(ensemble.probabilities(image), p, rtol=1e-5)
    np.testing.assert_array_equal(ensemble(image), image.argmax(-1))
    maps = ensemble.uncertainty(image[:, :5])
    assert maps["entropy"].shape == (5, 5)
    assert model.compiled == [(1, 8, 8, 3)]
    with pytest.raises(UserError, match="`bucket` must be at least 1"):
        Ensemble(members, bucket=0)
    for none in ([], members[0]):
        with pytest.raises(UserError, match="Expected a list of one or more trained models"):
            Ensemble(none)


def test_an_ensemble_is_the_mean_of_its_members(image):
    def trained(classes, seed):
        init = jax.jit(lambda key: Net().init(key, jnp.zeros((1, 2, 2, 3)), train=False))
        variables = init(jax.random.key(seed))
        return TrainedModel(Net(), variables, classes=tuple(classes), source=f"run {classes}", **FIELDS)

    members = [trained("abc", seed) for seed in (1, 2)]
    x = image / 50.0 / np.sqrt(1 + 1e-5)
    kernels = [np.asarray(member.variables["params"]["head"]["kernel"]) for member in members]
    expected = np.mean([special.softmax(x @ kernel, -1) for kernel in kernels], 0)
    maps = Ensemble(members).uncertainty(image)
    np.testing.assert_allclose(maps["probabilities"], expected, rtol=1e-4)
    assert maps["mutual_information"].max() > 1e-3
    with pytest.raises(UserError, match="'run xyz' differs from 'run abc'"):
        Ensemble([*members, trained("xyz", 1)])
    dropout = Ensemble.from_dropout(members[0], samples=3)
    assert dropout.trained.preprocessing.bucket == 8 and dropout(image).shape == image.shape[:2]
    assert dropout.uncertainty(image)["mutual_information"].max() > 1e-3


class Reds:
    """Stands for a network whose logits are a gain times the first bands."""

    def __init__(self, classes):
        self.num_classes = classes

    def apply(self, variables, images, *, train):
        return {"logits": variables["gain"] * images[..., : self.num_classes]}


def test_an_ensemble_of_sigmoids(image):
    """Probabilities and entropies are of each class by itself; one class has the threshold of its model."""
    fields = dict(preprocessing=Preprocessing((128.0,) * 3, STD, bucket=8), ignore=255, activation="sigmoid")
    p = np.stack([special.expit(gain * (image - 128.0) / 50) for gain in (1, 3)])
    names = dict(classes=tuple("abc"), palette=((0, 0, 0),) * 3)
    model = Reds(3)
    maps = Ensemble([TrainedModel(model, {"gain": np.float32(g)}, **names, **fields) for g in (1, 3)]).uncertainty(
        image
    )
    np.testing.assert_allclose(maps["probabilities"], p.mean(0), rtol=1e-5)
    total, single = (stats.entropy([q, 1 - q]).sum(-1) for q in (p.mean(0), p))
    np.testing.assert_allclose(maps["entropy"], total, rtol=1e-5)
    np.testing.assert_allclose(maps["mutual_information"], total - single.mean(0), atol=1e-5)
    names, model = dict(classes=tuple("ab"), palette=((0, 0, 0),) * 2, threshold=0.8), Reds(1)
    members = [TrainedModel(model, {"gain": np.float32(g)}, **names, **fields) for g in (1, 3)]
    np.testing.assert_array_equal(Ensemble(members)(image), p.mean(0)[..., 0] > 0.8)


class Dropping(nn.Module):
    """Logits that are the bands, of which dropout drops next to none."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        gain = self.param("gain", lambda key: jnp.ones(()))
        return {"logits": nn.Dropout(1e-6)(gain * x, deterministic=not train)}


def test_dropout_of_sigmoids_with_variants(image):
    """The mean over the variants is of each class by itself, as a Predictor's is."""
    fields = dict(preprocessing=Preprocessing((128.0,) * 3, STD, bucket=8), ignore=255, activation="sigmoid")
    fields |= dict(classes=tuple("abc"), palette=((0, 0, 0),) * 3)
    trained = TrainedModel(Dropping(), {"params": {"gain": np.float32(1)}}, **fields)
    maps = Ensemble.from_dropout(trained, samples=2, tta="flip").uncertainty(image)
    np.testing.assert_allclose(maps["probabilities"], special.expit((image - 128.0) / 50), rtol=1e-5)
    assert maps["mutual_information"].max() < 1e-5
