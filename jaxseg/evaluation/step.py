"""The step of an evaluation: from a batch to predictions, tallies and losses; one jit."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer, Num

from jaxseg import metrics
from jaxseg.experiment.devices import batched, replicated
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.logits import (
    has_sigmoids,
    labels_of,
    native_logits,
    predict_logits,
    probabilities_of,
    refiner_of,
)
from jaxseg.inference.refine import Refiner
from jaxseg.inference.tiling import Score
from jaxseg.inference.tta import ALONE, TTA
from jaxseg.metrics import Metric
from jaxseg.trained import TrainedModel

Loss = Callable[
    [Float[Array, "b h w c"], Int[Array, "b h w"], Bool[Array, "b h w"], Int[Array, ""]], Float[Array, ""]
]  # (logits, labels, where, step) -> mean over the valid pixels
Counts = tuple[Integer[Array, "b h w"], dict[str, metrics.Tally], Float[Array, " b"]]
Step = Callable[..., Counts]
CALIBRATED = "calibrated "  # before the name of a metric whose probabilities were calibrated


def make_eval_step(
    trained: TrainedModel,
    ignore: int,
    mesh: Mesh,
    chosen: Mapping[str, Metric],
    loss_of: Loss | None,
    calibration: Calibration | None,
    refine: Refiner | None,
    tta: TTA = ALONE,
) -> tuple[Step, Step, Score]:
    """Returns two jitted functions (variables, batch, step, canvas) -> (predictions, tallies, losses), and a third.

    The first takes whole images. The second is for images that were predicted in tiles: it takes no variables, {}, and
    a batch with "logits" at the native size for "image". The third makes the logits of tiles, a `tiling.Score`.
    Predictions are uint8, or uint16 where there are more classes; the tallies of calibrated probabilities have names
    that begin with `CALIBRATED`.

    Args:
      trained: the model.
      ignore: the label of pixels that do not count.
      mesh: over whose devices a batch is split.
      chosen: metrics by name.
      loss_of: see `Evaluator`; None is no loss, which is nan.
      calibration: None is none.
      refine: None is none.
      tta: variants whose probabilities are averaged.
    """
    apply = partial(trained.model.apply, train=False)
    refined, refine = bool(refine), refiner_of(refine, trained)
    if refine:  # each device its own images
        rows = batched(mesh).spec
        refine = jax.shard_map(refine, mesh=mesh, in_specs=(rows,) * 3, out_specs=rows, check_vma=False)
    scoring = {"preprocessing": trained.preprocessing, "refine": refine, "tta": tta, "sigmoids": has_sigmoids(trained)}
    count = _counter(trained, ignore, chosen, loss_of, calibration, refined)

    def gathered(variables: Mapping[str, Any]) -> Mapping[str, Any]:
        return jax.lax.with_sharding_constraint(variables, whole) if divided else variables

    def eval_step(
        variables: Mapping[str, Any], batch: Mapping[str, Array], step: Int[Array, ""], canvas: tuple[int, int]
    ) -> Counts:
        return count(native_logits(apply, gathered(variables), batch, canvas=canvas, **scoring), batch, step)

    def score(
        variables: Mapping[str, Any], images: Num[Array, "b h w c"], sizes: Int[Array, "b 2"]
    ) -> Float[Array, "b h w k"]:
        return predict_logits(apply, gathered(variables), images, sizes, **scoring)

    def tiled_step(
        variables: Mapping[str, Any], batch: Mapping[str, Array], step: Int[Array, ""], canvas: tuple[int, int]
    ) -> Counts:
        del variables
        return count(batch["logits"], batch, step)

    whole, split, divided = replicated(mesh), batched(mesh), "fsdp" in mesh.axis_names
    shardings = {"in_shardings": (None if divided else whole, split, whole), "out_shardings": (split, whole, split)}
    return *(jax.jit(step, static_argnums=3, **shardings) for step in (eval_step, tiled_step)), score


def _counter(
    trained: TrainedModel,
    ignore: int,
    chosen: Mapping[str, Metric],
    loss_of: Loss | None,
    calibration: Calibration | None,
    refined: bool,
) -> Callable[[Float[Array, "b h w k"], Mapping[str, Array], Int[Array, ""]], Counts]:
    """Returns a function (logits, batch, step) -> what is counted of a batch, once its logits are known.

    The arguments are those of `make_eval_step`.
    """
    small = jnp.uint8 if len(trained.classes) <= 256 else jnp.uint16

    def count(logits: Float[Array, "b h w k"], batch: Mapping[str, Array], step: Int[Array, ""]) -> Counts:
        where = batch["label"] != ignore
        label = jnp.where(where, batch["label"], 0).astype(jnp.int32)
        prediction = labels_of(logits, trained)
        given = {
            "predictions": lambda: prediction,
            "probabilities": lambda: probabilities_of(logits, trained, refined=refined),
        }
        counting = dict(where=where, num_classes=logits.shape[-1])
        tallies = {}
        for name, metric in chosen.items():
            more = {"sizes": batch["native"]} if metric.sized else {}
            tallies[name] = metric.update(given[metric.needs](), label, **counting, **more)
        if calibration:
            p = probabilities_of(calibration(logits), trained)
            tallies |= {
                CALIBRATED + name: metric.update(p, label, **counting)
                for name, metric in chosen.items()
                if metric.needs == "probabilities"
            }
        # The one logit of a model of one class: a mean over variants, or a refiner, moves the background's from 0.
        own = logits[..., 1:] - logits[..., :1] if trained.num_logits == 1 else logits
        each = jnp.full(len(label), jnp.nan, jnp.float32)
        if loss_of:  # of each image by itself: how they are batched changes nothing
            each = jax.vmap(lambda *one: loss_of(*(x[None] for x in one), step))(own, label, where)
        return prediction.astype(small), tallies, each

    return count
