"""A batch that is spread over devices is computed where it lies: sums travel, pixels do not."""

import json
import os
import subprocess
import sys

import pytest

from tests.contracts.test_losses import SORTS

PROGRAM = """
import json, re
from functools import partial
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxseg.losses import LOSSES, cross_entropy
from jaxseg.metrics import confusion_matrix

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
rng = np.random.default_rng(0)
shape = (4, 8, 9)
local = rng.normal(size=(*shape, 3)).astype(np.float32), rng.integers(0, 3, shape), rng.random(shape) < 0.7
logits, labels, where = jax.device_put(local, split)
found = {}

def add(name, function, arrays, outputs):
    compiled = jax.jit(function, out_shardings=outputs).lower(*arrays).compile()
    apart, together = compiled(*arrays), function(*map(np.asarray, arrays))
    error = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(together)))
    found[name] = sorted(set(re.findall(r"all-gather|all-to-all|collective-permute", compiled.as_text()))), error

# One of each way to sum; compiling for four devices takes seconds.
ways = ["cross_entropy", "dice", "focal_tversky", "mcc", "sigmoid_jaccard", "soft_cldice", "boundary"]
ways += ["lovasz_softmax", "unet_cross_entropy"]
losses = {name: LOSSES[name] for name in ways}
for name, loss in {**losses, "mined": partial(cross_entropy, ohem_keep=0.2, ohem_threshold=0.4)}.items():
    step = jax.value_and_grad(lambda x, y, w, loss=loss: loss(x, y, where=w))
    add(name, step, (logits, labels, where), (whole, split))
count = lambda y, w: confusion_matrix(y, y, num_classes=3, where=w)
add("confusion_matrix", count, (labels, where), whole)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_no_pixel_travels_and_nothing_changes(found):
    assert {"cross_entropy", "dice", "mined", "confusion_matrix"} <= found.keys()
    for name, (collectives, error) in found.items():
        assert not collectives or name in SORTS, f"{name}: {collectives}"  # a rank is one among the whole batch
        assert error < 1e-6, name
