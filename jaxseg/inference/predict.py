"""From pictures to label maps at their native size, by the steps that evaluation uses too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxseg.checks import UserError
from jaxseg.inference.calibration import Calibration, load_calibration
from jaxseg.inference.refine import Refiner, load_refiner
from jaxseg.ops.normalize import normalize

Colour = tuple[float, float, float]
Apply = Callable[[Any, Float[Array, "b h w 3"]], Mapping[str, Float[Array, "b h w c"]]]


def predict_logits(
    apply: Apply,
    variables: Any,
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    mean: Colour,
    std: Colour,
    refine: Refiner | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the model's scores of pictures as they come from a file: normalised here, and nowhere else.

    With `refine`, the scores after it, for which it needs the pictures' own `sizes`, before they were padded.
    """
    logits = apply(variables, normalize(images, mean, std))["logits"]
    return refine(logits, images, sizes) if refine else logits


def predict_step(
    apply: Apply,
    variables: Any,
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    mean: Colour,
    std: Colour,
    refine: Refiner | None = None,
) -> Int[Array, "b h w"]:
    """Returns the likeliest class of every pixel, int32; pure, to be jitted. Arguments are `predict_logits`'s."""
    logits = predict_logits(apply, variables, images, sizes, mean=mean, std=std, refine=refine)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def padded_size(h: int, w: int, bucket: int) -> tuple[int, int]:
    """Returns the next multiples of `bucket`, the sizes that are compiled.

    >>> padded_size(360, 480, 32)
    (384, 480)
    """
    return -(-h // bucket) * bucket, -(-w // bucket) * bucket


def pad_images(images: Sequence[UInt8[Array, "h w 3"]], size: tuple[int, int], mean: Colour) -> UInt8[Array, "b h w 3"]:
    """Stacks pictures, each at the top left of `size`, on the mean colour, which the model sees as zeros.

    >>> pad_images([np.zeros((1, 1, 3), np.uint8)], (1, 2), (9.4, 8.0, 7.0)).tolist()
    [[[[0, 0, 0], [9, 8, 7]]]]
    """
    batch = np.empty((len(images), *size, 3), np.uint8)
    batch[:] = np.round(mean).astype(np.uint8)
    for place, image in zip(batch, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return batch


class Predictor:
    """A trained model as a function of a picture: `predictor(image) -> label map`, both of one size, whatever it is.

    Pictures are normalised as in training and padded at the bottom and right to a multiple of `bucket`; a program is
    compiled for every padded size and number of pictures, once.

    Args:
      model: a module with the model contract, `apply(variables, images, train=False)["logits"]`.
      variables: {"params", "batch_stats"}.
      mean: of each channel, 0..255, as in training.
      std: of each channel, 0..255, as in training.
      classes: a name a class.
      palette: a colour a class.
      bucket: in pixels; larger compiles less often and computes more.
      ignore: the label that training did not count; no prediction has it.
      calibration: of the probabilities (docs/calibration.md); label maps are those of the model's own scores.
      refine: mends the scores by the picture; the probabilities are then not calibrated (docs/refinement.md).

    >>> class Brightest:  # stands for a model: the class is the brightest channel
    ...     def apply(self, variables, images, *, train):
    ...         return {"logits": images * variables["gain"]}
    >>> colours = dict(mean=(0.0,) * 3, std=(1.0,) * 3, classes="rgb", palette=np.eye(3, dtype=int) * 255)
    >>> predictor = Predictor(Brightest(), {"gain": 1.0}, **colours)
    >>> predictor(np.array([[[9, 0, 0], [0, 0, 5]]], np.uint8)).tolist()
    [[0, 2]]
    """

    def __init__(
        self,
        model: Any,
        variables: Mapping[str, Any],
        *,
        mean: Colour,
        std: Colour,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        bucket: int = 32,
        ignore: int = 255,
        calibration: Calibration | None = None,
        refine: Refiner | None = None,
    ):
        if bucket < 1:
            raise UserError(f"`bucket` must be at least 1 pixel, got {bucket}.")
        self.variables = jax.device_put(variables)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.classes, self.palette = tuple(classes), tuple(tuple(map(int, colour)) for colour in palette)
        self.bucket, self.ignore = bucket, ignore
        apply = partial(model.apply, train=False)
        options = {"mean": self.mean, "std": self.std, "refine": refine}
        self._labels = jax.jit(partial(predict_step, apply, **options))
        self.calibration = calibration = None if refine else calibration

        def probabilities(variables, images, sizes):
            logits = predict_logits(apply, variables, images, sizes, **options)
            return jax.nn.softmax(calibration(logits) if calibration else logits)

        self._probabilities = jax.jit(probabilities)

    @classmethod
    def from_workdir(cls, workdir: str, checkpoint: str | int = "best", *, refine: str | None = None) -> "Predictor":
        """Rebuilds the model that train.py left in `workdir`; neither the data set nor the config file is needed.

        Probabilities are calibrated if `eval.py --calibrate` was run on this checkpoint.

        Args:
          workdir: the folder that train.py wrote.
          checkpoint: "best" (by validation mIoU), "latest" or a step.
          refine: "crf" or "guided", with the run's settings.
        """
        from jaxseg.experiment.restore import load_for_inference

        restored = load_for_inference(workdir, checkpoint)
        return cls(
            restored.model,
            restored.variables,
            mean=restored.mean,
            std=restored.std,
            classes=restored.classes,
            palette=restored.palette,
            bucket=restored.bucket,
            ignore=restored.ignore,
            calibration=load_calibration(workdir, restored.step),
            refine=load_refiner(refine, workdir, restored.config.eval) if refine else None,
        )

    @classmethod
    def from_bundle(cls, source: str, *, refine: Refiner | None = None) -> "Predictor":
        """Rebuilds the model of a bundle: what `python -m jaxseg convert` and `pretrained.save_bundle` write.

        Args:
          source: the bundle's folder, or `hf:OWNER/REPO` on the Hugging Face hub.
          refine: of `create_refiner`.
        """
        from jaxseg.data.dataset import palette_colours
        from jaxseg.pretrained.bundle import load_bundle
        from jaxseg.pretrained.hub import locate

        bundle = load_bundle(locate(source))
        if not hasattr(bundle.module, "num_classes"):
            raise UserError(f"The bundle {source} holds an encoder alone. Name it as config.model.encoder_weights.")
        count = bundle.module.num_classes
        return cls(
            bundle.module,
            bundle.variables,
            mean=bundle.mean,
            std=bundle.std,
            classes=bundle.classes or [f"class {i}" for i in range(count)],
            palette=bundle.palette or palette_colours(count),
            ignore=bundle.ignore,
            refine=refine,
        )

    def __call__(self, image: UInt8[Array, "h w 3"]) -> Int[Array, "h w"]:
        """Returns the class of every pixel, int32.

        Args:
          image: RGB, uint8; grey [h, w], one channel and RGBA are taken too.
        """
        return self.predict_batch([image])[0]

    def probabilities(self, image: UInt8[Array, "h w 3"]) -> Float[Array, "h w c"]:
        """Returns the probability of every class at every pixel, float32; they sum to 1.

        Args:
          image: as for a call.
        """
        image = as_rgb(image)
        h, w = image.shape[:2]
        batch = pad_images([image], padded_size(h, w, self.bucket), self.mean)
        return np.asarray(self._probabilities(self.variables, batch, np.array([(h, w)], np.int32)))[0, :h, :w]

    def predict_batch(self, images: Sequence[UInt8[Array, "h w 3"]], *, batch_size: int = 8) -> list[Int[Array, "h w"]]:
        """Returns the label map of every picture; those of one padded size are computed together.

        Args:
          images: pictures of any sizes, as for a call.
          batch_size: most pictures computed at once; a short batch is filled up to a power of two.
        """
        images = [as_rgb(image) for image in images]
        results: list[Any] = [None] * len(images)
        for size, indices in self._groups(images, batch_size):
            fill = min(1 << (len(indices) - 1).bit_length(), batch_size)
            chosen = [images[i] for i in indices]
            batch = pad_images(chosen + chosen[-1:] * (fill - len(chosen)), size, self.mean)
            sizes = np.array([image.shape[:2] for image in chosen + chosen[-1:] * (fill - len(chosen))], np.int32)
            labels = np.asarray(self._labels(self.variables, batch, sizes))
            for i, label in zip(indices, labels, strict=False):
                results[i] = label[: images[i].shape[0], : images[i].shape[1]]
        return results

    def _groups(self, images, batch_size) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """Yields (padded size, indices of at most `batch_size` pictures)."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(padded_size(*image.shape[:2], self.bucket), []).append(i)
        for size, indices in groups.items():
            for start in range(0, len(indices), batch_size):
                yield size, indices[start : start + batch_size]


def as_rgb(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """Returns the picture as uint8[h, w, 3]: grey is repeated, transparency dropped; anything else is an error.

    >>> as_rgb(np.zeros((2, 3), np.uint8)).shape
    (2, 3, 3)
    >>> as_rgb(np.zeros((2, 3, 3)))
    Traceback (most recent call last):
    jaxseg.checks.UserError: Expected a picture of uint8, got float64. Pass it as read from the file, 0 to 255, ...
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise UserError(
            f"Expected a picture of uint8, got {image.dtype}. Pass it as read from the file, 0 to 255, not normalised:"
            " the predictor does that."
        )
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or not image.size:
        raise UserError(
            f"Expected one picture, uint8[height, width, 3], got shape {np.shape(image)}. For several, call"
            " predict_batch with a list; channels come last."
        )
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
