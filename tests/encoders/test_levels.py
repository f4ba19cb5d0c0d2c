"""The levels record: a mapping, a pytree, and what decoders ask of it."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.encoders.levels import Levels


def maps(*names, size=(33, 50), **options):
    """Zeros of the size that a level has, rounded up."""
    shapes = {name: tuple(-(-n // 2 ** int(name[1:])) for n in size) for name in names}
    return Levels({name: jnp.zeros((1, *shape, 2)) for name, shape in shapes.items()}, **options)


def test_it_is_a_mapping_and_a_pytree_that_keeps_what_it_knows():
    levels = maps("c1", "c2", output_stride=2, before_pooling=True)
    assert dict(levels).keys() == {**levels}.keys() == {"c1", "c2"}
    for other in (jax.tree.map(lambda x: x + 1, levels), jax.jit(lambda x: x)(levels), levels | {"c2": 0}):
        assert isinstance(other, Levels)
        assert (list(other), other.output_stride, other.before_pooling) == (["c1", "c2"], 2, True)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(levels)]
    assert paths == ["['c1']", "['c2']"]  # as a dict's


def test_strides_are_bounded_by_the_output_stride():
    levels = maps("c1", "c2", "c3", "c4", output_stride=8)
    assert [levels.stride(name) for name in levels] == [2, 4, 8, 8]
    assert levels.at(8) is levels["c4"] and levels.at(4) is levels["c2"]
    with pytest.raises(UserError, match="no level of stride 16. Choose one of 2, 4, 8"):
        levels.at(16)


def test_a_level_that_there_is_not_is_named():
    levels = maps("c2", "c3")
    with pytest.raises(UserError, match="Unknown level of the encoder 'c1'.*Known: c2, c3"):
        levels["c1"]
    with pytest.raises(UserError, match="c1"):
        levels.shallower("c2")
    assert levels.get("c1") is None and "c1" not in levels and "c2" in levels


def test_skips_go_from_the_deepest_up_to_the_image():
    levels = maps("c2", "c3")
    skips, sizes = levels.skips((33, 50))
    assert skips == [levels["c2"], None, None]
    assert sizes == [(9, 13), (16, 25), (33, 50)]  # of a level rounded up, of an absent one down
    assert levels.deepest is levels["c3"] and levels.depth == 3
    assert levels.skips((1, 1))[1][1:] == [(1, 1), (1, 1)]


@pytest.mark.parametrize("name, pooled_later", [("vgg11", True), ("resnet18", False)])
def test_encoders_say_whether_their_levels_are_taken_before_the_pooling(name, pooled_later):
    encoder = create_encoder(name, output_stride=16)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    levels, _ = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, train=False), image)
    assert (levels.output_stride, levels.before_pooling) == (16, pooled_later)
    assert [levels.stride(level) for level in levels] == [64 // x.shape[1] for x in levels.values()]
