"""Models of jaxseg as modules of Flax NNX: the same layers, numbers and checkpoints, in NNX's loops and transforms.

    from flax import nnx
    import jaxseg.nnx

    model = jaxseg.nnx.create("unet", "resnet18", num_classes=21, rngs=nnx.Rngs(0))
    logits = model(images)["logits"]  # in training mode; model.eval() and model.train() switch, as everywhere in NNX

The module wraps the linen model (`flax.nnx.bridge.ToNNX`); nothing is written twice. `variables` gives back the linen
variables, for `jaxseg.Predictor`, bundles and exports.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen, nnx
from flax.nnx.bridge import variables as bridge
from jaxtyping import Array, Float

from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.pretrained.matching import check_shapes_fit


class Segmenter(nnx.Module):
    """A linen model with its variables, as one NNX module.

    Parameters are `nnx.Param`, running statistics `nnx.BatchStat`: `nnx.Optimizer(model, tx, wrt=nnx.Param)`,
    `nnx.state`, `nnx.split` and `nnx.jit` see them. In training mode, which a new module is in, the statistics of the
    batch are used and the running ones updated, and dropout draws from `rngs`.

    Args:
      model: of `jaxseg.create_model`, or any linen module with the contract `apply(variables, images, train=)`.
      variables: of `jaxseg.init`, `jaxseg.load(...).variables` or a training: {"params", "batch_stats"}.
      rngs: whose stream "dropout" dropout draws from; None will do for models without.

    Raises:
      UserError: the variables are of another model, or of this one with other classes, channels or options.
    """

    def __init__(self, model: linen.Module, variables: Mapping[str, Any], *, rngs: nnx.Rngs | None = None):
        if "params" not in variables:
            raise UserError(f"Expected the variables of a linen model, {{'params': …}}, got {sorted(variables)}.")
        check_shapes_fit(variables, model, "The tree of variables")
        self.network = nnx.bridge.ToNNX(model, rngs)
        for name, value in bridge.linen_vars_to_nnx_attrs(jax.tree.map(jax.numpy.asarray, dict(variables))).items():
            setattr(self.network, name, value)
        self.use_running_average = self.deterministic = False  # what nnx.Module.train and eval set

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool | None = None
    ) -> dict[str, Float[Array, "b _h _w k"]]:
        """Returns the outputs of the model, "logits" and those of its further heads, as its `apply` does.

        Args:
          images: normalized.
          train: None is the module's mode.
        """
        train = not self.use_running_average if train is None else train
        return self.network(images, train=train, mutable=["batch_stats"] if train else False)

    @property
    def variables(self) -> dict[str, Any]:
        """The linen variables, {"params", "batch_stats"}, as they are now."""
        own = {name: value for name, value in vars(self.network).items() if _holds_variables(value)}
        return bridge.nnx_attrs_to_linen_vars(own)


def create(
    name: str,
    encoder: str | linen.Module = "",
    *,
    num_classes: int | None = None,
    rngs: nnx.Rngs,
    **options: Any,
) -> Segmenter:
    """Creates a model of `jaxseg.MODELS` with random weights, as an NNX module in training mode.

    Args:
      name: as for `jaxseg.create_model`, as are all that follow but `rngs`.
      encoder: see there.
      num_classes: see there.
      rngs: the stream "params", or the default one, draws the weights; "dropout" is kept.
      **options: see there.

    >>> options = {"widths": (4, 8), "convs": 1}
    >>> model = create(
    ...     "unet", "plain", num_classes=3, rngs=nnx.Rngs(0), encoder_options=options, decoder_channels=(8, 4)
    ... )
    >>> model(jax.numpy.ones((1, 8, 8, 3)))["logits"].shape
    (1, 8, 8, 3)
    """
    if not (isinstance(rngs, nnx.Rngs) and {"params", "default"} & set(dict(rngs.items()))):
        raise UserError(f"Expected rngs that draw parameters, as nnx.Rngs(0), got {type(rngs).__name__}.")
    model = create_model(name, encoder, num_classes=num_classes, **options)
    return Segmenter(model, init(model, rngs.params()), rngs=rngs)


def _holds_variables(value: Any) -> bool:
    """Whether an attribute of the wrapper holds parts of the model, and not the streams of random numbers."""
    leaves = jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return bool(leaves) and all(isinstance(leaf, (nnx.Param, nnx.BatchStat)) for leaf in leaves)
