"""The step of an evaluation: from a batch to predictions, tallies and losses; one jit."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxseg import metrics
from jaxseg.experiment.devices import batched, replicated
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import labels_of, native_logits, probabilities_of, refiner_of
from jaxseg.inference.refine import Refiner
from jaxseg.metrics import Metric
from jaxseg.trained import TrainedModel

Loss = Callable[
    [Float[Array, "b h w c"], Int[Array, "b h w"], Bool[Array, "b h w"], Int[Array, ""]], Float[Array, ""]
]  # (logits, labels, where, step) -> mean over the valid pixels
CALIBRATED = "calibrated "  # before the name of a metric whose probabilities were calibrated


def make_eval_step(
    trained: TrainedModel,
    ignore: int,
    mesh: Mesh,
    chosen: Mapping[str, Metric],
    loss_of: Loss | None,
    calibration: Calibration | None,
    refine: Refiner | None,
) -> Callable[..., tuple[Array, dict[str, metrics.Tally], Array]]:
    """Returns the jitted function (variables, batch, step, canvas) -> (predictions, tallies, loss of each image).

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
    """
    apply = partial(trained.model.apply, train=False)
    refined, refine = bool(refine), refiner_of(refine, trained)
    if refine:  # each device its own images
        rows = batched(mesh).spec
        refine = jax.shard_map(refine, mesh=mesh, in_specs=(rows,) * 3, out_specs=rows, check_vma=False)
    predict = partial(native_logits, apply, preprocessing=trained.preprocessing, refine=refine)
    small = jnp.uint8 if len(trained.classes) <= 256 else jnp.uint16

    def eval_step(
        variables: Mapping[str, Any], batch: Mapping[str, Array], step: Int[Array, ""], canvas: tuple[int, int]
    ) -> tuple[Integer[Array, "b h w"], dict[str, metrics.Tally], Float[Array, " b"]]:
        variables = jax.lax.with_sharding_constraint(variables, whole) if divided else variables
        logits = predict(variables, batch, canvas=canvas)
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
        own = logits[..., -trained.num_logits :]  # without the background that a model of one class lacks
        each = jnp.full(len(label), jnp.nan, jnp.float32)
        if loss_of:  # of each image by itself: how they are batched changes nothing
            each = jax.vmap(lambda *one: loss_of(*(x[None] for x in one), step))(own, label, where)
        return prediction.astype(small), tallies, each

    whole, split, divided = replicated(mesh), batched(mesh), "fsdp" in mesh.axis_names
    shardings = {"in_shardings": (None if divided else whole, split, whole), "out_shardings": (split, whole, split)}
    return jax.jit(eval_step, static_argnums=3, **shardings)
