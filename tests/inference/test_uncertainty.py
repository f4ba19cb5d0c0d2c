"""Ensembles and dropout: the maps equal their definitions, and members are what they are alone."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import special, stats

from jaxseg.checks import UserError
from jaxseg.inference import Ensemble
from jaxseg.inference.uncertainty import dropout_logits, uncertainty

MEAN, STD = (0.0,) * 3, (50.0,) * 3


class Net(nn.Module):
    """Batch normalisation, which must stay in evaluation, and dropout, which must not."""

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
    logits = jax.jit(dropout_logits(model, mean=MEAN, std=STD, samples=samples))(variables, image[None])
    assert logits.shape == (samples, 1, 5, 6, 3)
    x = image / 50.0 / np.sqrt(1 + 1e-5)  # the running statistics of a new model are 0 and 1
    kernel = np.asarray(variables["params"]["head"]["kernel"])
    single = (2 * x)[..., :, None] * kernel  # with a rate of 1/2, what is left counts twice
    left = [np.multiply.outer(bits, np.ones(3)) for bits in np.ndindex(2, 2, 2)]
    possible = np.stack([(single * bits).sum(-2) for bits in left])
    gaps = np.abs(np.asarray(logits)[:, 0, ..., None, :] - np.moveaxis(possible, 0, -2)).max(-1).min(-1)
    assert gaps.max() < 1e-4, "a sample is no dropout of the evaluated model"
    np.testing.assert_allclose(logits.mean(0)[0], x @ kernel, atol=5 * np.abs(single).max() / np.sqrt(samples))
    with pytest.raises(UserError, match="Net has no dropout"):
        jax.eval_shape(dropout_logits(Net(rate=0.0), mean=MEAN, std=STD, samples=2), variables, image[None])
    with pytest.raises(UserError, match="`samples` must be at least 1"):
        dropout_logits(model, mean=MEAN, std=STD, samples=0)


def test_ensemble_crops_and_compiles_once_a_bucket(image):
    compiled = []

    def logits(gains, images):
        compiled.append(images.shape)
        return gains[:, None, None, None, None] * images.astype(jnp.float32) / 50.0

    making = dict(mean=MEAN, classes="abc", palette=np.eye(3, dtype=int), bucket=4)
    ensemble = Ensemble(logits, jnp.array([1.0, 2.0]), **making)
    p = np.mean([special.softmax(gain * (image / 50.0), -1) for gain in (1, 2)], 0)
    np.testing.assert_allclose(ensemble.probabilities(image), p, rtol=1e-5)
    np.testing.assert_array_equal(ensemble(image), image.argmax(-1))
    maps = ensemble.uncertainty(image[:, :5])
    assert maps["entropy"].shape == (5, 5)
    assert compiled == [(1, 8, 8, 3)]
    with pytest.raises(UserError, match="`bucket` must be at least 1"):
        Ensemble(logits, 0, **{**making, "bucket": 0})
    with pytest.raises(UserError, match="Expected a list of one or more workdirs"):
        Ensemble.from_workdirs("runs/a")
    with pytest.raises(UserError, match="2 workdirs but 1 checkpoints"):
        Ensemble.from_workdirs(["a", "b"], checkpoints=["best"])


def test_from_workdirs_is_the_mean_of_the_runs(image, monkeypatch):
    def restored(workdir, checkpoint):
        init = jax.jit(lambda key: Net().init(key, jnp.zeros((1, 2, 2, 3)), train=False))
        rest = dict(mean=MEAN, std=STD, classes=tuple(workdir), palette=((0, 0, 0),) * 3, bucket=8, ignore=255)
        return SimpleNamespace(model=Net(), variables=init(jax.random.key(checkpoint)), **rest)

    monkeypatch.setattr("jaxseg.experiment.restore.load_for_inference", restored)
    x = image / 50.0 / np.sqrt(1 + 1e-5)
    kernels = [np.asarray(restored("abc", seed).variables["params"]["head"]["kernel"]) for seed in (1, 2)]
    expected = np.mean([special.softmax(x @ kernel, -1) for kernel in kernels], 0)
    maps = Ensemble.from_workdirs(["abc", "abc"], [1, 2]).uncertainty(image)
    np.testing.assert_allclose(maps["probabilities"], expected, rtol=1e-4)
    assert maps["mutual_information"].max() > 1e-3
    with pytest.raises(UserError, match="xyz is a run of another model than abc"):
        Ensemble.from_workdirs(["abc", "xyz"], 1)
    assert Ensemble.from_dropout("abc", 1, samples=3)(image).shape == image.shape[:2]
