"""The PyTorch libraries that jaxseg is compared with, and what every comparison needs."""

import importlib
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.encoders import create_encoder

ROWS = []
GIT = ["git", "rev-parse", "--short", "HEAD"]
COMMIT = subprocess.run(GIT, capture_output=True, text=True, check=False).stdout.strip()  # what is imported, not later


def pytest_addoption(parser):
    parser.addoption("--parity-table", help="write the measured errors to this Markdown file")


@pytest.fixture(scope="session")
def peers():
    """torch, torchvision, timm and smp; the test is skipped without them, or fails if JAXSEG_REQUIRE_PARITY=1."""
    try:
        import torch

        try:
            import torchvision
        except RuntimeError:  # one that was built for another torch lacks its operators; none is needed
            for op in ("nms", "qnms"):
                torch.library.define(
                    f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            import torchvision
        import segmentation_models_pytorch as smp
        import timm
    except (ImportError, RuntimeError) as error:
        report = pytest.fail if os.environ.get("JAXSEG_REQUIRE_PARITY") == "1" else pytest.skip
        report(f"the parity tests need `pip install jaxseg[parity]`: {error}")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the images are tiny, and waiting threads spin
    return SimpleNamespace(torch=torch, torchvision=torchvision, timm=timm, smp=smp)


@pytest.fixture(scope="session")
def require():
    """`require("monai.losses")`: that module; the test is skipped without it, or fails if JAXSEG_REQUIRE_PARITY=1."""

    def require(name):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            report = pytest.fail if os.environ.get("JAXSEG_REQUIRE_PARITY") == "1" else pytest.skip
            report(f"this comparison needs `pip install --no-deps {name.split('.')[0]}`: {error}")

    return require


@pytest.fixture(scope="session")
def randomize(peers):
    """Gives a PyTorch module random normalization parameters and statistics: the defaults would hide an error.

    So would biases and layer scales that are all the same.
    """
    torch = peers.torch

    def randomize(module, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm | torch.nn.GroupNorm | torch.nn.LayerNorm):
                part.weight.data.uniform_(0.5, 1.5, generator=generator)
                part.bias.data.normal_(0, 0.2, generator=generator)
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_(0, 0.2, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
        for parameter in module.parameters():
            if parameter.numel() and (parameter == parameter.flatten()[0]).all():
                parameter.data.normal_(0, 0.2, generator=generator)
        return module

    return randomize


@pytest.fixture(scope="session")
def images():
    """An odd batch of images that are not square, normalized, NHWC."""
    return np.random.default_rng(0).normal(size=(3, 64, 96, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def to_torch(peers):
    return lambda x: peers.torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


@pytest.fixture
def forward():
    """`forward(module, variables, images)`: the outputs and, in training, the new statistics; compiled once a call."""

    def forward(module, variables, images, *, train=False):
        variables = jax.tree.map(jnp.asarray, variables)
        if not train:
            return jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images)
        apply = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
        outputs, updates = apply(variables, images)
        return outputs, updates["batch_stats"]

    return forward


@pytest.fixture(scope="session")
def assert_close():
    """Asserts max|ours - theirs| <= 1e-4 max|theirs|, `theirs` a tensor or an array, and returns the ratio."""

    def assert_close(ours, theirs, limit=1e-4, what=""):
        if hasattr(theirs, "detach"):
            theirs = theirs.detach().numpy()
        if theirs.ndim == 4:
            theirs = np.moveaxis(theirs, 1, -1)
        ours = np.asarray(ours)
        assert ours.shape == theirs.shape, what
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert error <= limit, f"{what}: relative error {error:.2e}"
        return error

    return assert_close


@pytest.fixture(scope="session")
def compare_losses(to_torch):
    """Compares values and gradients of {name: (ours of NHWC logits, theirs of NCHW logits)}, ours in one program."""

    def compare_losses(pairs, logits):
        every = {name: jax.value_and_grad(ours) for name, (ours, _) in pairs.items()}
        step = jax.jit(lambda x: {name: step(x) for name, step in every.items()})
        for name, (value, gradient) in step(logits).items():
            x = to_torch(logits).requires_grad_(True)
            loss = pairs[name][1](x)
            loss.backward()
            np.testing.assert_allclose(value, loss.item(), rtol=1e-6, err_msg=name)
            expected = np.moveaxis(x.grad.numpy(), 1, -1)
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7, err_msg=name)

    return compare_losses


@pytest.fixture(scope="session")
def count():
    """Counts parameters, of a tree of arrays or of a PyTorch module."""

    def count(thing):
        leaves = thing.parameters() if hasattr(thing, "parameters") else jax.tree.leaves(thing)
        return sum(np.prod(leaf.shape, dtype=np.int64) for leaf in leaves)

    return count


@pytest.fixture
def check_levels(peers, images, to_torch, forward, assert_close, count, record):
    """Compares all levels of an encoder with a PyTorch module's (the last ones, if it has fewer than five), and its
    parameters but for `head` of them; records the worst error and returns the variables."""

    def check_levels(name, module, convert, features, *, peer, samples=images, head=0, **options):
        module.eval()
        variables = convert(name, module.state_dict(), **options)
        ours = forward(create_encoder(name, **options), variables, samples)
        with peers.torch.no_grad():
            theirs = features(to_torch(samples))
        assert list(ours) == [f"c{i}" for i in range(6 - len(theirs), 6)]
        errors = [assert_close(ours[key], t, what=key) for key, t in zip(ours, theirs, strict=True)]
        sizes = count(variables["params"]), count(module) - head
        assert sizes[0] == sizes[1]
        outputs = f"{min(ours)}-c5, output stride {options.get('output_stride', 32)}"
        row = {"error": max(errors), "ours": sizes[0], "theirs": sizes[1]}
        record(architecture="encoder", encoder=name, peer=peer, outputs=outputs, **row)
        return variables

    return check_levels


@pytest.fixture
def check_statistics(images, to_torch, forward, assert_close):
    """Trains on a batch here and there; compares c5 and all running statistics after it."""

    def check_statistics(name, module, convert, deepest, samples=images, limit=1e-4, **options):
        module.train()
        variables = convert(name, module.state_dict(), **options)
        ours, statistics = forward(create_encoder(name, **options), variables, samples, train=True)
        assert_close(ours["c5"], deepest(to_torch(samples)), limit, what="c5")
        expected = flatten_dict(convert(name, module.state_dict(), **options)["batch_stats"])
        statistics = flatten_dict(statistics)
        assert statistics.keys() == expected.keys()
        for path, value in statistics.items():
            scale = np.abs(expected[path]).max()
            np.testing.assert_allclose(value, expected[path], rtol=limit, atol=limit * scale, err_msg=str(path))

    return check_statistics


@pytest.fixture(scope="session")
def record():
    """Adds a row to the table that `--parity-table` writes."""
    return lambda **row: ROWS.append(row)


def pytest_sessionfinish(session):
    path = session.config.getoption("--parity-table", default=None)
    if not path or not ROWS:
        return
    import segmentation_models_pytorch as smp
    import timm
    import torch
    import torchvision

    lines = [
        "# Parity with the PyTorch libraries",
        "",
        f"Written by `pytest tests/parity --parity-table {path}` on {time.strftime('%Y-%m-%d')}, commit {COMMIT},",
        f"{jax.devices()[0].platform.upper()}, float32; jax {jax.__version__}, torch {torch.__version__},"
        f" torchvision {torchvision.__version__}, timm {timm.__version__},",
        f"segmentation_models_pytorch {smp.__version__}. Each row: the peer's weights, with random normalization",
        "statistics unless it says ImageNet, converted by `jaxseg.pretrained`, and the same images through both.",
        "Error: max|ours - theirs| / max|theirs|, the worst of all outputs.",
        "",
        "| architecture | encoder | compared with | outputs | error | parameters, ours | theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(ROWS, key=lambda r: (r["architecture"], r["encoder"], r["peer"], r["outputs"])):
        lines.append(
            f"| {row['architecture']} | {row['encoder']} | {row['peer']} | {row['outputs']} |"
            f" {row['error']:.1e} | {row['ours']:,} | {row['theirs']:,} |"
        )
    Path(path).write_text("\n".join(lines) + "\n")
