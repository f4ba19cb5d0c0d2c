"""Where a model may be wrong: several opinions of one picture, of an ensemble or of dropout, and how they differ."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxseg.checks import UserError
from jaxseg.inference.predict import Colour, as_rgb, pad_images, padded_size, predict_logits


def uncertainty(probabilities: Float[Array, "n b h w c"]) -> dict[str, Array]:
    """Returns the mean of n opinions and two maps of how uncertain they are, in nats.

    - `probabilities` [b, h, w, c]: the mean p over the opinions.
    - `entropy` [b, h, w]: of that mean, -Σ p log p, from 0 to log c: all that is not known.
    - `mutual_information` [b, h, w]: the entropy less the opinions' own mean entropy, how much they disagree: what more
      training data would tell (Gal et al., 2017, arXiv:1703.02910; Depeweg et al., 2018, arXiv:1710.07283).

    Args:
      probabilities: of each opinion; they sum to 1 over c.

    >>> sure_and_split = jnp.array([[1.0, 0.0], [0.0, 1.0]])[:, None, None, None]
    >>> maps = uncertainty(sure_and_split)
    >>> round(float(maps["entropy"][0, 0, 0]), 4), round(float(maps["mutual_information"][0, 0, 0]), 4)
    (0.6931, 0.6931)
    """
    if probabilities.ndim != 5:
        raise UserError(f"Expected probabilities [n, b, h, w, c] of n opinions, got shape {probabilities.shape}.")
    probabilities = probabilities.astype(jnp.float32)
    mean = probabilities.mean(0)
    entropy = _entropy(mean)
    disagreement = jnp.maximum(entropy - _entropy(probabilities).mean(0), 0.0)
    return {"probabilities": mean, "entropy": entropy, "mutual_information": disagreement}


def _entropy(p: Float[Array, "... c"]) -> Float[Array, "..."]:
    return jnp.maximum(-jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0).sum(-1), 0.0)


class Ensemble:
    """Several opinions of a picture as one: `ensemble(image) -> label map`, and where they are uncertain.

    All opinions are computed together, in one program that is compiled once a padded size, as `Predictor`'s is. The
    probabilities are those of the models as trained: `eval.py --calibrate` fits single models.

    Args:
      logits: `(variables, images uint8[b, h, w, 3]) -> float[n, b, h, w, c]`, of n opinions.
      variables: what it needs.
      mean: of each channel, 0..255, as in training; the colour of the padding.
      classes: a name a class.
      palette: a colour a class.
      bucket: pictures are padded to a multiple of this, in pixels.
      ignore: the label that training did not count; no prediction has it.

    >>> def brightness(limits, images):  # stands for two models: class 0 is what is brighter than a limit
    ...     scores = images[None, ..., 0] - limits[:, None, None, None]
    ...     return jnp.stack([scores, 0 * scores], -1)
    >>> options = dict(mean=(0.0,) * 3, classes="ab", palette=[(0, 0, 0)] * 2)
    >>> ensemble = Ensemble(brightness, jnp.array([10.0, 30.0]), **options)
    >>> ensemble(np.array([[0, 99]], np.uint8)).tolist()
    [[1, 0]]
    """

    def __init__(
        self,
        logits: Callable[[Any, UInt8[Array, "b h w 3"]], Float[Array, "n b h w c"]],
        variables: Any,
        *,
        mean: Colour,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        bucket: int = 32,
        ignore: int = 255,
    ):
        if bucket < 1:
            raise UserError(f"`bucket` must be at least 1 pixel, got {bucket}.")
        self.variables = jax.device_put(variables)
        self.mean, self.bucket, self.ignore = tuple(map(float, mean)), bucket, ignore
        self.classes, self.palette = tuple(classes), tuple(tuple(map(int, colour)) for colour in palette)
        self._maps = jax.jit(lambda variables, images: uncertainty(jax.nn.softmax(logits(variables, images))))

    @classmethod
    def from_workdirs(
        cls, workdirs: Sequence[str], checkpoints: str | int | Sequence[str | int] = "best"
    ) -> "Ensemble":
        """Makes an ensemble of runs of one model, e.g. of several seeds (Lakshminarayanan et al., arXiv:1612.01474).

        The parameters are stacked and the model is vmapped over them: N models in one program, and N times the memory.

        Args:
          workdirs: folders that train.py wrote; one may be named several times, for several of its checkpoints.
          checkpoints: "best", "latest" or a step, for all or one a workdir.
        """
        from jaxseg.experiment.restore import load_for_inference

        if isinstance(workdirs, str) or not workdirs:
            raise UserError(f"Expected a list of one or more workdirs, got {workdirs!r}.")
        if isinstance(checkpoints, str | int):
            checkpoints = [checkpoints] * len(workdirs)
        if len(checkpoints) != len(workdirs):
            raise UserError(f"Got {len(workdirs)} workdirs but {len(checkpoints)} checkpoints. Name one a workdir.")
        members = [load_for_inference(*pair) for pair in zip(workdirs, checkpoints, strict=True)]
        first = members[0]
        for workdir, member in zip(workdirs, members, strict=True):
            if _kind(member) != _kind(first):
                raise UserError(f"{workdir} is a run of another model than {workdirs[0]}: they can't share a program.")
        apply = partial(first.model.apply, train=False)

        def logits(variables, images):
            predict = partial(predict_logits, apply, mean=first.mean, std=first.std)
            return jax.vmap(predict, in_axes=(0, None))(variables, images)

        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(member.variables for member in members))
        return cls(logits, stacked, mean=first.mean, **_labels(first))

    @classmethod
    def from_dropout(
        cls, workdir: str, checkpoint: str | int = "best", *, samples: int = 20, seed: int = 0
    ) -> "Ensemble":
        """Makes an ensemble of one run, with dropout left on (Gal & Ghahramani, 2016, arXiv:1506.02142).

        Batch normalisation stays in evaluation. What comes before the first dropout is computed once for all samples.

        Args:
          workdir: the folder that train.py wrote; the model must have dropout.
          checkpoint: "best", "latest" or a step.
          samples: opinions, at least 1.
          seed: of the dropout; the same picture gets the same opinions again.
        """
        from jaxseg.experiment.restore import load_for_inference

        restored = load_for_inference(workdir, checkpoint)
        logits = dropout_logits(restored.model, mean=restored.mean, std=restored.std, samples=samples, seed=seed)
        return cls(logits, restored.variables, mean=restored.mean, **_labels(restored))

    def __call__(self, image: UInt8[Array, "h w 3"]) -> Int[Array, "h w"]:
        """Returns the class with the largest mean probability at every pixel, int32.

        Args:
          image: as for a `Predictor`.
        """
        return self.probabilities(image).argmax(-1).astype(np.int32)

    def probabilities(self, image: UInt8[Array, "h w 3"]) -> Float[Array, "h w c"]:
        """Returns the mean probability of every class at every pixel, float32; they sum to 1."""
        return self.uncertainty(image)["probabilities"]

    def uncertainty(self, image: UInt8[Array, "h w 3"]) -> dict[str, np.ndarray]:
        """Returns the maps of `inference.uncertainty.uncertainty` for one picture: "probabilities", "entropy", …."""
        image = as_rgb(image)
        h, w = image.shape[:2]
        batch = pad_images([image], padded_size(h, w, self.bucket), self.mean)
        return {name: np.asarray(array)[0, :h, :w] for name, array in self._maps(self.variables, batch).items()}


def dropout_logits(
    model: Any, *, mean: Colour, std: Colour, samples: int, seed: int = 0
) -> Callable[[Any, UInt8[Array, "b h w 3"]], Float[Array, "n b h w c"]]:
    """Returns `(variables, images) -> logits [samples, …]` of a linen module whose dropout layers alone train.

    Args:
      model: a linen module with the model contract.
      mean: of each channel, 0..255, as in training.
      std: of each channel, 0..255, as in training.
      samples: at least 1.
      seed: of the dropout.
    """
    from flax import linen as nn

    if samples < 1:
        raise UserError(f"`samples` must be at least 1, got {samples}.")

    def apply(variables, images, *, key):
        rates = []

        def leave_dropout_on(call, args, kwargs, context):
            if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
                rates.append(context.module.rate)
                kwargs = {**kwargs, "deterministic": False}
            return call(*args, **kwargs)

        with nn.intercept_methods(leave_dropout_on):
            outputs = model.apply(variables, images, train=False, rngs={"dropout": key})
        if not any(rates):
            raise UserError(
                f"{type(model).__name__} has no dropout: its samples would all be alike. Use a model that has"
                " (fpn, panet, deeplabv3), config.model.options, or an ensemble of runs."
            )
        return outputs

    def logits(variables, images):
        def one(key):
            return predict_logits(partial(apply, key=key), variables, images, mean=mean, std=std)

        return jax.vmap(one)(jax.random.split(jax.random.key(seed), samples))

    return logits


def _kind(restored: Any) -> tuple:
    return restored.model, restored.mean, restored.std, restored.classes


def _labels(restored: Any) -> Mapping[str, Any]:
    return {
        "classes": restored.classes,
        "palette": restored.palette,
        "bucket": restored.bucket,
        "ignore": restored.ignore,
    }
