"""The table of `show` adds up, and names the parts a reader looks for."""

import argparse

import jax
import jax.numpy as jnp
import pytest

from jaxseg import create_model
from jaxseg.analysis import summary
from jaxseg.analysis.flops import count_macs
from jaxseg.checks import UserError


@pytest.fixture(scope="module")
def model():
    return create_model("unet", "resnet18", num_classes=3)


def test_parts_add_up(model):
    rows = {row.name: row for row in summary.parts(model, (64, 96))}
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert sum(row.parameters for row in rows.values()) == sum(p.size for p in jax.tree.leaves(variables["params"]))
    macs = count_macs(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert sum(row.macs for row in rows.values()) == macs.total()


def test_parts_by_hand(model):
    rows = {row.name: row for row in summary.parts(model, (64, 96))}
    stem = rows["encoder/stem"]
    assert stem.output == (32, 48, 64)
    assert stem.parameters == 7 * 7 * 3 * 64 + 2 * 64
    assert stem.macs == 32 * 48 * 64 * 7 * 7 * 3
    assert stem.memory == 2 * 4 * 32 * 48 * 64  # convolution and norm, float32
    stage = rows["encoder/stage4"]  # 2 blocks of 2 convolutions, and a 1x1 shortcut
    assert stage.output == (2, 3, 512)
    assert stage.macs == 2 * 3 * 512 * (9 * 256 + 3 * 9 * 512 + 256)
    assert rows["head"].output == (64, 96, 3)
    names = list(rows)
    assert names.index("encoder/stem") < names.index("encoder/stage4") < names.index("decoder/block0")
    assert names[-1] == "head"


def test_text(model):
    text = summary.summarize(model, (64, 96))
    line = next(line for line in text.splitlines() if line.startswith("encoder/stage4"))
    assert "2 x 3 x 512" in line and " 32 " in line and "8,393,728" in line
    assert "UNet / ResNet" in text and "total" in text


def test_show_takes_configs_and_models(capsys, tmp_path):
    parser = argparse.ArgumentParser()
    summary.add_arguments(parser)
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxseg.config import default_config\n"
        "def get_config():\n"
        "    c = default_config()\n"
        "    c.model.encoder = 'plain'\n"
        "    return c\n"
    )
    assert summary.run(parser.parse_args([str(path), "--size", "64"])) == 0
    assert "UNet / Plain, float32, one image of 64 x 64 pixels" in capsys.readouterr().out
    assert summary.run(parser.parse_args(["fpn", "--encoder", "plain", "--size", "64", "32"])) == 0
    assert "FPN / Plain" in capsys.readouterr().out
    with pytest.raises(UserError, match="neither a config file nor a model"):
        summary.run(parser.parse_args(["unett"]))
    with pytest.raises(UserError, match="does not exist"):
        summary.run(parser.parse_args([str(tmp_path / "no.py")]))
