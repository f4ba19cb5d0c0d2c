"""The optimizer against torch.optim's, with a learning rate of its own for each group of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.config import default_config
from jaxseg.experiment.build import make_optimizer, make_schedule
from jaxseg.experiment.freeze import path_name

SHAPES = {
    "encoder": {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "norm": {"scale": (4,), "bias": (4,)}},
    "decoder": {"conv": {"kernel": (1, 1, 4, 4), "bias": (4,)}},
    "head": {"conv": {"kernel": (1, 1, 4, 3), "bias": (3,)}},
}
LR, DECAY, STEPS = 0.05, 0.01, 5
# Of DeepLab's train.prototxt: the classifier ten times as fast, biases twice; and a slower encoder besides.
FACTORS = {"head": 10.0, "*/bias": 2.0}
ENCODER = 0.1


def _draw(rng):
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: rng.normal(size=shape).astype(np.float32), SHAPES, is_leaf=is_shape)


@pytest.mark.parametrize(
    "name, nesterov, optimizer, rounding",
    # 1 - 0.999 has four digits in float32, which optax has it in; PyTorch has it in float64.
    [("sgd", False, "SGD", 2e-6), ("sgd", True, "SGD", 2e-6), ("adamw", False, "AdamW", 5e-5)],
)
def test_factors_by_path_are_torchs_groups(peers, name, nesterov, optimizer, rounding):
    torch = peers.torch
    rng = np.random.default_rng(0)
    start, grads = _draw(rng), [_draw(rng) for _ in range(STEPS)]

    theirs, groups = {}, []
    for path, value in jax.tree_util.tree_leaves_with_path(start):
        key = path_name(path)
        theirs[key] = torch.nn.Parameter(torch.from_numpy(value.copy()))
        factor = (ENCODER if key.startswith("encoder/") else 1) * (10 if key.startswith("head/") else 1)
        factor *= 2 if key.endswith("/bias") else 1
        decay = DECAY if value.ndim > 1 else 0.0
        groups.append({"params": [theirs[key]], "lr": LR * factor, "weight_decay": decay})
    more = {"momentum": 0.9, "nesterov": nesterov} if optimizer == "SGD" else {}
    group_optimizer = getattr(torch.optim, optimizer)(groups, **more)
    for grad in grads:
        for path, value in jax.tree_util.tree_leaves_with_path(grad):
            theirs[path_name(path)].grad = torch.from_numpy(value.copy())
        group_optimizer.step()

    c = default_config()
    c.optim.update(name=name, lr=LR, weight_decay=DECAY, momentum=0.9, nesterov=nesterov, schedule="constant")
    c.optim.encoder_lr_factor, c.optim.lr_factors = ENCODER, FACTORS
    tx = make_optimizer(c, make_schedule(c, STEPS))
    ours = jax.tree.map(jnp.asarray, start)
    state = tx.init(ours)
    for grad in grads:
        updates, state = tx.update(grad, state, ours)
        ours = optax.apply_updates(ours, updates)

    for path, value in jax.tree_util.tree_leaves_with_path(ours):
        expected = theirs[path_name(path)].detach().numpy()
        np.testing.assert_allclose(value, expected, rtol=rounding, atol=rounding, err_msg=path_name(path))
