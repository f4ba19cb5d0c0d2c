"""The state divided over eight devices, in a process that has eight: the same numbers, an eighth of the bytes."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxseg
from jaxseg.blocks.conv import BatchNorm, ConvNormAct, batch_norm_parts
from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.devices import build, localize, sharding_of
from jaxseg.training import create_state, eval_variables, make_mesh, make_train_step, shard_batch, state_sharding
from jaxseg.training.step import linen_forward


class Net(nn.Module):
    """Two layers and a head; the kernels are large enough to be divided."""

    num_classes: int = 7
    dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x = ConvNormAct(40, name="first")(images, train=train)
        x = ConvNormAct(32, name="second")(x, train=train)
        return {"logits": nn.Dense(self.num_classes, name="head")(x)}


def _batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        image = rng.normal(size=(8, 8, 8, 3)).astype(np.float32)
        yield {"image": image, "label": (image[..., 0] > 0).astype(np.int32)}


def _loss(outputs, labels, where, step):
    return jaxseg.losses.cross_entropy(outputs["logits"], labels)


def _train(mesh, steps=20, **options):
    """Returns (state, losses, the compiled step)."""
    variables = jaxseg.init(Net(), jax.random.key(0), image_size=(8, 8))
    tx = optax.adamw(1e-3)
    state = build(partial(create_state, tx=tx, ema=True), variables, mesh)
    sharding = state_sharding(state, mesh)
    step = make_train_step(Net(), tx, _loss, mesh=mesh, state_sharding=sharding, ema_decay=0.9, **options)
    batches = [shard_batch(batch, mesh) for batch in _batches(steps)]
    step = step.lower(state, batches[0]).compile()
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return state, losses, step


def _bytes(state):
    """Bytes of the state on every device."""
    sizes = [[piece.data.nbytes for piece in leaf.addressable_shards] for leaf in jax.tree.leaves(state)]
    return np.sum(sizes, axis=0).tolist()


def _check_training(folder):
    whole, losses, program = _train(make_mesh())
    fed, theirs, divided = _train(make_mesh(fsdp=8))
    np.testing.assert_allclose(theirs, losses, rtol=1e-6)
    for ours, other in zip(jax.tree.leaves(fed), jax.tree.leaves(whole), strict=True):
        a, b = np.asarray(ours, np.float64), np.asarray(other, np.float64)
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)
    small = sum(leaf.nbytes for leaf in jax.tree.leaves(whole) if leaf.size < 1024)
    (each,), (copy,) = set(_bytes(fed)), set(_bytes(whole))
    assert each == (copy - small) // 8 + small
    saved = program.memory_analysis().argument_size_in_bytes - divided.memory_analysis().argument_size_in_bytes
    assert saved == copy - each  # of what the program is given
    checkpoints = Checkpoints(folder, writable=True)
    checkpoints.save(20, fed, {"iterator": 20})
    checkpoints.wait()
    for mesh in (make_mesh(fsdp=2), make_mesh(), make_mesh(1)):
        like = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), fed, state_sharding(fed, mesh)
        )
        restored, _ = checkpoints.restore(20, like)
        chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(fed))
        assert restored.params["second"]["conv"]["kernel"].sharding.mesh.shape == mesh.shape
    checkpoints.close()
    np.savez(Path(folder) / "kernel.npz", kernel=np.asarray(fed.ema["params"]["second"]["conv"]["kernel"]))
    _check_evaluation(fed)


def _check_evaluation(state):
    from jaxseg.evaluation.evaluator import Evaluator
    from jaxseg.inference.predict import Predictor
    from jaxseg.trained import TrainedModel

    data = jaxseg.create_dataset("shapes", size=16, val=5)
    variables = jax.device_get(eval_variables(state))
    trained = TrainedModel(
        Net(), variables, data.classes, data.palette, data.ignore, Preprocessing((99.0,) * 3, (50.0,) * 3)
    )
    images = [record["image"] for record in data.splits["val"]]
    found = []
    for mesh in (make_mesh(), make_mesh(fsdp=4)):
        evaluator = Evaluator(trained, data, mesh)
        matrix = evaluator("val", variables=localize(eval_variables(state), evaluator.mesh)).matrix
        predictor = Predictor(trained, mesh=mesh)
        kernel = predictor.variables["params"]["second"]["conv"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // mesh.shape.get("fsdp", 1)
        found.append((matrix, predictor.predict_batch(images)))
    chex.assert_trees_all_equal(*found)


def test_a_divided_state_learns_is_saved_and_evaluated_as_a_whole_one(tmp_path):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    code = f"from tests.training.test_fsdp import _check_training; _check_training({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    restored = Checkpoints(tmp_path).restore_variables(20)["params"]["second"]["conv"]["kernel"]  # on one device
    np.testing.assert_array_equal(restored, np.load(tmp_path / "kernel.npz")["kernel"])


MESH = jax.sharding.AbstractMesh((2, 8), ("data", "fsdp"))  # in which eight devices share the state


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 3, 64, 128), 3), ((3, 3, 128, 64), 2), ((3, 3, 64, 64), 3), ((3, 3, 60, 64), 3), ((7, 9, 5, 11), None)],
)
def test_the_largest_axis_that_can_be_is_divided(shape, axis):
    spec = sharding_of(shape, MESH).spec
    assert [i for i, name in enumerate(spec) if name] == ([] if axis is None else [axis])
    assert not any(sharding_of((512,), MESH).spec)  # too small to be worth it
    assert any(sharding_of((1024,), MESH).spec)


def test_a_number_of_devices_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"config.train.fsdp=3 does not divide 1 devices. Use one of 1\."):
        make_mesh(1, fsdp=3)


class Block(nn.Module):
    """A layer and dropout."""

    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNormAct(4, name="layer")(x, train=train)
        return nn.Dropout(0.5)(x, deterministic=not train)


class Blocks(nn.Module):
    """Two of them."""

    @nn.compact
    def __call__(self, x, *, train):
        return Block(name="second")(Block(name="first")(x, train=train), train=train)


class Model(nn.Module):
    """Blocks in parts, as a `Segmenter` has them."""

    encoder: nn.Module
    decoder: nn.Module

    def __call__(self, x, *, train):
        return {"logits": self.decoder(self.encoder(x, train=train), train=train)}


def _gradient(model, remat):
    variables = jaxseg.init(model, jax.random.key(0), image_size=(8, 8))
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))

    def objective(params):
        forward = linen_forward(model, remat=remat)
        outputs, statistics = forward({**variables, "params": params}, images, jax.random.key(2))
        return jnp.square(outputs["logits"]).mean(), statistics

    return jax.grad(objective, has_aux=True), variables["params"]


def _recomputed(model, remat):
    """The number of parts of the forward pass that are computed again."""
    gradient, params = _gradient(model, remat)
    names = [equation.primitive.name for equation in jax.make_jaxpr(gradient)(params).jaxpr.eqns]
    return sum("remat" in name or "checkpoint" in name for name in names)


def test_recomputed_blocks_change_nothing():
    """Nor the random numbers that dropout draws in a block."""
    model = Model(Blocks(), Blocks())
    assert [_recomputed(model, remat) for remat in ("", "blocks")] == [0, 4]
    (whole, params), (again, _) = (_gradient(model, remat) for remat in ("", "blocks"))
    chex.assert_trees_all_close(jax.jit(whole)(params), jax.jit(again)(params), rtol=1e-5, atol=1e-7)
    with pytest.raises(UserError, match=r"`remat` \(config\.train\.remat\) is '' or 'blocks', got 'all'"):
        linen_forward(model, remat="all")


def test_the_blocks_of_a_model_are_found():
    options = {"encoder_options": {"widths": (4, 6)}, "decoder_channels": (6, 4), "num_classes": 2}
    unet = jaxseg.create_model("unet", "plain", **options)
    assert _recomputed(unet, "blocks") == 8  # two layers a level; an enlargement and a block a step of the decoder
    assert _recomputed(jaxseg.create_model("segnet_basic", num_classes=2), "blocks") > 4  # it is its own encoder


def test_batch_norm_of_parts_is_that_of_each_alone():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 8)) * jnp.arange(1.0, 5.0)[:, None, None, None]
    norm = BatchNorm()
    variables = norm.init(jax.random.key(1), x, train=False)

    def call(x, parts):
        with batch_norm_parts(parts):
            return norm.apply(variables, x, train=True, mutable=["batch_stats"])

    y, updated = call(x, 2)
    halves = [call(x[2 * i : 2 * i + 2], 1) for i in range(2)]
    np.testing.assert_allclose(y, jnp.concatenate([half for half, _ in halves]), rtol=1e-5, atol=1e-6)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, halves[0][1], halves[1][1])
    chex.assert_trees_all_close(updated, mean, rtol=1e-5)
    with pytest.raises(UserError, match="A batch of 4 images has no 3 equal parts"):
        call(x, 3)
