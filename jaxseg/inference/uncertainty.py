"""Uncertainty: several predictions of one image, by an ensemble or by dropout, and how much they differ."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.batches import Programs, as_stored, find_grid, stack, stacked_shapes
from jaxseg.inference.loaded import check_trained
from jaxseg.inference.logits import has_sigmoids, predict_logits, probabilities_of
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.inference.options import Cutter, Options
from jaxseg.inference.predict import Image, with_changes
from jaxseg.inference.tiled import TiledPredictions
from jaxseg.inference.tiling import Tiling
from jaxseg.inference.tta import ALONE, TTA
from jaxseg.models.parts import title
from jaxseg.ops.resize import resize_within
from jaxseg.trained import TrainedModel

Logits = Callable[..., Float[Array, "n b h w k"]]  # (variables, images, their sizes) -> n opinions
_MAPS = ("entropy", "mutual_information")


def uncertainty(probabilities: Float[Array, "n *b h w c"], *, sigmoids: bool = False) -> dict[str, Array]:
    """Returns the mean of n predictions and two maps of their uncertainty, in nats.

    - `probabilities` [b, h, w, c]: the mean p over the predictions.
    - `entropy` [b, h, w]: of that mean, -Σ p log p, from 0 to log c: the total uncertainty.
    - `mutual_information` [b, h, w]: the entropy minus the mean entropy of the single predictions: how much they
      disagree, which more training data would reduce (Gal et al., 2017, arXiv:1703.02910; Depeweg et al., 2018,
      arXiv:1710.07283).

    Args:
      probabilities: of each prediction; they sum to 1 over c.
      sigmoids: whether they do not, each class having its own; the entropies are then the sums over the classes of
        -p log p - (1 - p) log(1 - p), from 0 to c log 2.

    >>> sure_and_split = jnp.array([[1.0, 0.0], [0.0, 1.0]])[:, None, None, None]
    >>> maps = uncertainty(sure_and_split)
    >>> round(float(maps["entropy"][0, 0, 0]), 4), round(float(maps["mutual_information"][0, 0, 0]), 4)
    (0.6931, 0.6931)
    """
    if probabilities.ndim != 5:
        raise UserError(f"Expected probabilities [n, b, h, w, c] of n opinions, got shape {probabilities.shape}.")
    probabilities = probabilities.astype(jnp.float32)
    mean = probabilities.mean(0)
    entropy = _entropy(mean, sigmoids)
    disagreement = jnp.maximum(entropy - _entropy(probabilities, sigmoids).mean(0), 0.0)
    return {"probabilities": mean, "entropy": entropy, "mutual_information": disagreement}


def _entropy(p: Float[Array, "... c"], sigmoids: bool) -> Float[Array, "..."]:
    if sigmoids:
        return _entropy(p, False) + _entropy(1 - p, False)
    return jnp.maximum(-jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0).sum(-1), 0.0)


class Ensemble:
    """Several models as one: `ensemble(image) -> label map`, and maps of their uncertainty.

    All predictions are computed together, in one program per padded size, as by `Predictor`. The
    probabilities are those of the models as trained: `jaxseg eval --calibrate` fits single models.

    Args:
      members: models of one kind, e.g. of runs with several seeds (Lakshminarayanan et al., 2017, arXiv:1612.01474),
        or checkpoints of one run. Their parameters are stacked and the model is vmapped over them: N models in one
        program, and N times the memory.
      bucket: images are padded to a multiple of this, in pixels; None means the models' own.
      **applied: tile, overlap, blend and tta, as for `Predictor`. The maps of tiles are blended, not the logits.

    >>> class Brightness:  # stands for a model: class 0 is what is brighter than a limit
    ...     def apply(self, variables, images, *, train):
    ...         scores = images[..., 0] - variables["limit"]
    ...         return {"logits": jnp.stack([scores, 0 * scores], -1)}
    >>> making = dict(classes=("a", "b"), palette=((0, 0, 0),) * 2, ignore=255)
    >>> making["preprocessing"] = Preprocessing((0.0,) * 3, (1.0,) * 3)
    >>> model = Brightness()
    >>> ensemble = Ensemble([TrainedModel(model, {"limit": np.float32(limit)}, **making) for limit in (10, 30)])
    >>> ensemble(np.array([[[0] * 3, [99] * 3]], np.uint8)).tolist()
    [[1, 0]]
    """

    def __init__(self, members: Sequence[TrainedModel], *, bucket: int | None = None, **applied: Any):
        if not isinstance(members, Sequence) or isinstance(members, str) or not members:
            raise UserError("Expected a list of one or more trained models. Make them with jaxseg.load.")
        first = members[0]
        for member in members:
            check_trained(member)
            if _kind(member) != _kind(first):
                raise UserError(
                    f"An ensemble's members must be of one model with one set of classes: '{member.source}' differs"
                    f" from '{first.source}'. Leave one out."
                )
        apply = partial(first.model.apply, train=False)

        options = Options.of(first, **applied)
        predict = partial(
            predict_logits,
            apply,
            preprocessing=first.preprocessing,
            tta=options.tta,
            sigmoids=has_sigmoids(first),
        )

        def logits(
            variables: Any, images: Num[Array, "b h w c"], sizes: Int[Array, "b 2"]
        ) -> Float[Array, "n b h w labels"]:
            return jax.vmap(predict, in_axes=(0, None, None))(variables, images, sizes)

        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(member.variables for member in members))
        self._set(first, bucket, logits, stacked, options)

    @classmethod
    def from_dropout(
        cls, trained: TrainedModel, *, samples: int = 20, seed: int = 0, bucket: int | None = None, **applied: Any
    ) -> "Ensemble":
        """Makes an ensemble of one model, with dropout left on (Gal & Ghahramani, 2016, arXiv:1506.02142).

        Batch normalization stays in evaluation. Layers before the first dropout are computed once for all samples.

        Args:
          trained: the model, which must have dropout.
          samples: number of predictions, at least 1.
          seed: of the dropout; the same image always gets the same predictions.
          bucket: as for `Ensemble`.
          **applied: likewise.
        """
        options = Options.of(trained, **applied)
        logits = dropout_logits(
            trained.model,
            trained.preprocessing,
            samples=samples,
            seed=seed,
            tta=options.tta,
            sigmoids=has_sigmoids(trained),
        )
        ensemble = cls.__new__(cls)
        ensemble._set(trained, bucket, logits, trained.variables, options)
        return ensemble

    def _set(self, trained: TrainedModel, bucket: int | None, logits: Logits, variables: Any, options: Options) -> None:
        self.trained = trained = with_changes(trained, bucket)
        self.variables = jax.device_put(variables)
        self.options = options
        resized = bool(trained.preprocessing.resize)

        def maps_of(logits: Float[Array, "n b h w c"]) -> dict[str, Array]:
            return uncertainty(probabilities_of(logits, trained), sigmoids=has_sigmoids(trained))

        def maps(variables: Any, batch: Mapping[str, Array], canvas: tuple[int, int]) -> dict[str, Array]:
            found = logits(variables, batch["image"], batch["size"])
            if resized:
                enlarge = partial(resize_within, sizes=batch["size"], new_sizes=batch["native"], canvas=canvas)
                found = jax.vmap(enlarge)(found)
            return maps_of(found)

        def score(variables: Any, images: Num[Array, "b h w c"], sizes: Int[Array, "b 2"]) -> Float[Array, "b h w k"]:
            found = maps_of(logits(variables, images, sizes))
            return jnp.concatenate([found["probabilities"], *(found[name][..., None] for name in _MAPS)], axis=-1)

        def finish(found: Float[Array, "h w k"]) -> dict[str, Array]:
            last = dict(zip(_MAPS, jnp.moveaxis(found[..., -len(_MAPS) :], -1, 0), strict=True))
            return {"probabilities": found[..., : -len(_MAPS)], **last}

        self._maps = Programs(jax.jit(maps, static_argnums=2))
        self._tiles = TiledPredictions(score, finish, trained.preprocessing)
        self._cutter = Cutter(options, trained.preprocessing, jax.devices()[0])

    def __call__(self, image: Image) -> Int[np.ndarray, "h w"]:
        """Returns the class with the largest mean probability at every pixel, int32; of a model of one class, 1 where
        its mean probability is above the threshold of the first member.

        Args:
          image: as for a `Predictor`.
        """
        return self.label_of(self.probabilities(image))

    def label_of(self, probabilities: Float[np.ndarray, "*b c"]) -> Int[np.ndarray, "*b"]:
        """Returns the label that a call gives pixels of these mean probabilities."""
        one = self.trained.num_logits == 1
        likely = probabilities[..., 1] > self.trained.threshold if one else probabilities.argmax(-1)
        return likely.astype(np.int32)

    def probabilities(self, image: Image) -> Float[np.ndarray, "h w c"]:
        """Returns the mean probability of every class at every pixel, float32; those of a softmax sum to 1."""
        return self.uncertainty(image)["probabilities"]

    def uncertainty(self, image: Image) -> dict[str, np.ndarray]:
        """Returns the maps of `inference.uncertainty.uncertainty` for one image: "probabilities", "entropy", …."""
        seen = self.trained.preprocessing
        image = as_stored(image, seen.bands)
        h, w = image.shape[:2]
        if tiling := self.tiling((h, w)):
            return self._tiles(self.variables, image, tiling)
        grid = find_grid((h, w), seen)
        remedy = "Cut it into tiles (tile=512), or take fewer members."
        with saying_what_to_lower(f"An image of {h}x{w} (height x width)", remedy):
            maps = self._maps(self.variables, stack([image], grid, seen, 1), canvas=grid.canvas)
            return {name: np.asarray(array)[0, :h, :w] for name, array in maps.items()}

    def tiling(self, size: tuple[int, int]) -> Tiling | None:
        """Returns how an image of this (height, width) is cut, None if it is predicted whole."""
        grid, bands = find_grid(size, self.trained.preprocessing), self.trained.bands

        def need() -> int:
            return self._maps.bytes(self.variables, stacked_shapes(grid, bands, 1), canvas=grid.canvas)

        return self._cutter(grid, need)


def dropout_logits(
    model: Any,
    preprocessing: Preprocessing,
    *,
    samples: int,
    seed: int = 0,
    tta: TTA = ALONE,
    sigmoids: bool = False,
) -> Logits:
    """Returns what makes logits [samples, …] of a linen module in which only dropout is in training mode.

    Args:
      model: a linen module with the model contract.
      preprocessing: of images, as in training.
      samples: at least 1.
      seed: of the dropout.
      tta: variants, each of which is dropped out alike; their probabilities are averaged.
      sigmoids: whether the model has several classes, each with a probability of its own; `tta` averages these.
    """
    from flax import linen as nn

    if samples < 1:
        raise UserError(f"`samples` must be at least 1, got {samples}.")

    def apply(variables: Any, images: Float[Array, "b h w c"], *, key: Array) -> Mapping[str, Float[Array, "b h w k"]]:
        rates = []

        def leave_dropout_on(
            call: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            context: nn.module.InterceptorContext,
        ) -> Any:
            if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
                rates.append(context.module.rate)
                kwargs = {**kwargs, "deterministic": False}
            return call(*args, **kwargs)

        with nn.intercept_methods(leave_dropout_on):
            outputs = model.apply(variables, images, train=False, rngs={"dropout": key})
        if not any(rates):
            raise UserError(
                f"{title(model)} has no dropout: its samples would all be alike. Use a model that has"
                " (fpn, panet, deeplabv3), config.model.options, or an ensemble of runs."
            )
        return outputs

    def logits(
        variables: Any, images: Num[Array, "b h w c"], sizes: Int[Array, "b 2"] | None = None
    ) -> Float[Array, "n b h w labels"]:
        def one(key: Array) -> Float[Array, "b h w labels"]:
            made = partial(apply, key=key)
            applied = dict(preprocessing=preprocessing, tta=tta, sigmoids=sigmoids)
            return predict_logits(made, variables, images, sizes, **applied)

        return jax.vmap(one)(jax.random.split(jax.random.key(seed), samples))

    return logits


def _kind(trained: TrainedModel) -> tuple[Any, ...]:
    return trained.model, trained.preprocessing, trained.classes, trained.activation
