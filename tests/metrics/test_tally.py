"""Merging: past what 32 bits hold, in any order, over devices and over processes."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.metrics import Tally, create_metrics, merge, scores
from jaxseg.metrics.fixed import fixed_sum, fixed_value

PROGRAM = """
import json, sys
import jax, numpy as np
index, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxseg.metrics import create_metrics, merge, merge_processes

rng = np.random.default_rng(0)
shape, classes = (12, 6, 5), 3
p = rng.dirichlet(np.ones(classes), shape).astype(np.float32)
labels, where = rng.integers(0, classes, shape), rng.random(shape) < 0.8
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices())
split = NamedSharding(mesh, PartitionSpec("data"))
found = {}
for name, metric in create_metrics(["confusion", "spread", "calibration", "surface"]).items():
    guess = p if metric.needs == "probabilities" else p.argmax(-1)
    update = jax.jit(lambda p, y, w: metric.update(p, y, where=w, num_classes=classes))
    own = [slice(0, 4)] if index == 0 else [slice(4, 8), slice(8, 12)]  # unlike many rows
    parts = [update(*(jax.device_put(x[part], split) for x in (guess, labels, where))) for part in own]
    apart = metric.result(merge_processes(merge(parts)))
    together = metric.result(merge([update(guess, labels, where)]))
    found[name] = json.dumps(apart) == json.dumps(together)
print(json.dumps(found))
"""


def test_four_devices_in_each_of_two_processes_equal_one_pass():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", PROGRAM]
    pipes = dict(env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen([*command, str(i), port], **pipes) for i in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (out, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error
        assert json.loads(out.splitlines()[-1]) == {
            "confusion": True,
            "spread": True,
            "calibration": True,
            "surface": True,
        }  # to the bit


def test_ten_billion_pixels():
    """Five batches of 2^31 - 1 pixels, the most that int32 holds, score as one of them."""
    batch = np.array([[2**31 - 5, 1], [2, 1]], np.int32)
    total = merge([Tally({"matrix": batch}, {})] * 5).sums["matrix"]
    assert total.dtype == np.int64
    assert total.sum() == 5 * (2**31 - 1) > 10**10
    for key, value in scores(batch).items():
        np.testing.assert_allclose(scores(total)[key], value, rtol=1e-9, err_msg=key)
    assert scores(total)["iou"][1] == 0.25


def test_ten_billion_pixels_of_probability():
    metric = create_metrics(["calibration"])["calibration"]
    count = jax.jit(metric.update, static_argnames="num_classes")
    few = count(np.full((1, 2, 2, 2), 0.5, np.float32), np.zeros((1, 2, 2), int), where=None, num_classes=2)
    parts = [few._replace(sums={key: np.asarray(value, np.int64) * 2**27 for key, value in few.sums.items()})] * 20
    many = merge(parts)
    assert many.sums["pixels"] == 20 * 2**29 > 10**10
    for key in ("ece", "nll", "brier", "class_ece"):
        np.testing.assert_allclose(metric.result(many)[key], metric.result(merge([few]))[key], rtol=1e-9, err_msg=key)


def test_sums_of_fractions_are_exact():
    rng = np.random.default_rng(0)
    values = rng.random((2, 40, 300)).astype(np.float32)
    values[0, 0, :3] = 0, 1, 2.0**-24
    expected = np.round(values.astype(np.float64) * 2**24).sum() / 2**24
    total = jax.jit(fixed_sum, static_argnums=1)
    assert fixed_value(total(values)) == expected
    assert fixed_value(total(np.ascontiguousarray(values[:, ::-1, ::-1]))) == expected
    assert fixed_value(np.asarray(total(values[:1])) + np.asarray(total(values[1:]))) == expected
    np.testing.assert_allclose(fixed_value(total(100 * values, 128.0), 128.0), 100 * values.sum(dtype=float), rtol=1e-6)


def test_nothing_to_merge_is_named():
    with pytest.raises(UserError, match="Nothing to merge"):
        merge([])


@pytest.mark.parametrize(
    "names, options, message",
    [
        (["calibraton"], {}, "Unknown metric 'calibraton'. Did you mean 'calibration'"),
        (["spread"], {"calibration": {}}, "Options are given for the metric 'calibration', which is not asked for"),
        (["spread"], {"spread": {"sample": 3}}, "Unknown option 'sample' of metric 'spread'. Did you mean 'samples'"),
        (["calibration"], {"calibration": {"bins": 0}}, "`bins` must be at least 1, got 0"),
        (["boundary_calibration"], {"boundary_calibration": {"radius": 0}}, "`radius` must be at least 1 pixel"),
        (["thresholds"], {"thresholds": {"thresholds": (0.5, 0.5)}}, "must increase"),
        (["thresholds"], {"thresholds": {"thresholds": (0.5, 1.5)}}, "numbers from 0 to 1"),
        (["spread"], {"spread": 3}, "must be a mapping of arguments, got 3"),
    ],
)
def test_mistakes_are_named(names, options, message):
    with pytest.raises(UserError, match=message):
        create_metrics(names, options)
