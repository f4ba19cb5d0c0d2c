"""The table of `show` adds up, and names the parts a reader looks for."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg import create_model
from jaxseg.analysis import summary
from jaxseg.analysis.flops import count_macs
from jaxseg.checks import UserError
from jaxseg.cli.program import call


@pytest.fixture(scope="module")
def model():
    return create_model("unet", "resnet18", num_classes=3)


@pytest.fixture(scope="module")
def root(model):
    return summary.tree(model, (64, 96))


def find(root, path):
    *_, node = root.down(path.split("/"))
    return node


def test_the_tree_adds_up(model, root):
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert root.parameters == sum(p.size for p in jax.tree.leaves(variables["params"]))
    macs = count_macs(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert root.macs == macs.total()
    for name in ("parameters", "macs", "memory"):
        assert sum(getattr(child, name) for child in root.children.values()) == getattr(root, name), name


def test_every_parameter_lies_at_the_path_of_a_row(model, root):
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    for path, _ in jax.tree.leaves_with_path(variables["params"]):
        nodes = list(root.down(key.key for key in path[:-1]))
        assert all(node.kind for node in nodes), path  # a module that was called, not one made here


def test_parts_by_hand(root):
    stem = find(root, "encoder/stem")
    assert stem.output == (32, 48, 64)
    assert stem.parameters == 7 * 7 * 3 * 64 + 2 * 64
    assert stem.macs == 32 * 48 * 64 * 7 * 7 * 3
    assert stem.memory == 2 * 4 * 32 * 48 * 64  # convolution and norm, float32
    blocks = [find(root, f"encoder/stage4_block{i}") for i in (0, 1)]
    assert blocks[1].output == (2, 3, 512)
    macs = 2 * 3 * 512 * (9 * 256 + 3 * 9 * 512 + 256)  # 2 blocks of 2 convolutions, and a 1x1 shortcut
    assert sum(block.macs for block in blocks) == macs
    (folded,) = summary._fold(blocks)
    assert (folded.macs, folded.output, folded.kind) == (macs, (2, 3, 512), "2 BasicBlock")
    assert root.output == (64, 96, 3)
    assert list(root.children) == ["encoder", "decoder", "head"]
    names = list(root.children["encoder"].children)
    assert names.index("stem") < names.index("stage1_block0") < names.index("stage4_block1")


def test_text_from_the_figure_to_the_path(model):
    lines = summary.summarize(model, (64, 96)).splitlines()
    assert lines[0] == "UNetDecoder / ResNet, float32, one image of 64 x 96 pixels"
    whole = next(line for line in lines if line.startswith("the whole model"))
    assert "64x96x3" in whole and "Segmenter: A model made of parts" in whole
    decoder = next(line for line in lines if line.startswith("├ decoder"))
    assert "UNetDecoder: U-Net (Ronneberger et al., 2015, arXiv:1505.04597, fig. 1)" in decoder
    stage = next(line for line in lines if "stage4_block0 … 1" in line)
    assert stage.startswith("│ └ ") and "2x3x512" in stage and " 32 " in stage and "8,393,728" in stage
    assert "2 BasicBlock" in stage
    assert not any(" conv " in line for line in lines)  # within a brick
    (first, *others) = [line for line in lines if line.endswith("UNetBlock") or "UNetBlock:" in line]
    assert "Two convolutions on `x`" in first and len(others) == 4 and not any(":" in line for line in others)


def test_depth_of_the_tree(model):
    def labels(depth):
        lines = summary.summarize(model, (64, 96), depth).splitlines()[3:]
        return [line.lstrip("│ ├└").split("  ")[0] for line in lines[: lines.index("")]]

    assert labels(1) == ["the whole model", "encoder", "decoder", "head"]
    every = labels(0)
    assert {"stage4_block0", "stage4_block1", "shortcut", "norm"} <= set(every)
    assert len(every) > 100 > len(labels(3)) > len(labels(2))


def test_a_model_around_a_model():
    """Its parts keep their paths, and run once a scale."""
    options = {"num_classes": 3, "encoder_options": {"widths": (4,) * 5}}
    network = create_model("deeplabv2", "plain", **options)
    alone, around = (
        summary.tree(model, (64, 64)).children["encoder"]
        for model in (network, create_model("image_pyramid", "plain", scales=(1, 1), **options))
    )
    assert (around.parameters, around.macs) == (alone.parameters, 2 * alone.macs)


def test_show_takes_configs_and_models(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxseg.config import default_config\n"
        "def get_config():\n"
        "    c = default_config()\n"
        "    c.model.encoder = 'plain'\n"
        "    return c\n"
    )
    assert call("show", str(path), "--size", "64") == 0
    assert "UNetDecoder / Plain, float32, one image of 64 x 64 pixels" in capsys.readouterr().out
    assert call("show", "fpn", "--encoder", "plain", "--size", "64", "32") == 0
    assert "FPNDecoder / Plain" in capsys.readouterr().out
    with pytest.raises(UserError, match="neither a config file nor a recipe nor a model. Did you mean 'unet'"):
        call("show", "unett")
    with pytest.raises(UserError, match="There is no config file"):
        call("show", str(tmp_path / "no.py"))


def test_show_fits_the_terminal_and_still_says_what_each_part_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call("show", "fpn", "--encoder", "plain", "--size", "64") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "Feature pyramid network (Lin et al., 2016" in " ".join(text.split())
