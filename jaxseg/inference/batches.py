"""Images on their way to a model: resized by its rule, grouped by size, padded and stacked; and compiled programs."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands, resize_bands
from jaxseg.data.preprocessing import Preprocessing

Size = tuple[int, int]  # (height, width), pixels
Result = TypeVar("Result")
PROGRAMS = 24  # compiled ones that are kept


class Grid(NamedTuple):
    """The sizes that a program is compiled for."""

    padded: Size  # that the network sees
    canvas: Size  # that its scores are resized to, which holds the images at their native size


def find_grid(native: Size, preprocessing: Preprocessing) -> Grid:
    """Returns the grid of an image of a native size; without a rule of resizing both its sizes are one.

    >>> find_grid((360, 480), Preprocessing((0,) * 3, (1,) * 3))
    Grid(padded=(384, 480), canvas=(384, 480))
    """
    padded = preprocessing.padded(*preprocessing.resize(*native))
    if not preprocessing.resize:
        return Grid(padded, padded)
    steps = map(preprocessing.step, native)
    return Grid(padded, tuple(-(-n // step) * step for n, step in zip(native, steps, strict=True)))


def resize_image(image: Num[np.ndarray, "_h _w c"], preprocessing: Preprocessing) -> Num[np.ndarray, "_h2 _w2 c"]:
    """Returns an image at the size at which the network sees it, by the model's rule."""
    size = preprocessing.resize(*image.shape[:2])
    return image if size == image.shape[:2] else resize_bands(image, size, preprocessing.bands)


def stack(
    images: Sequence[Num[np.ndarray, "_h _w c"]],
    grid: Grid,
    preprocessing: Preprocessing,
    count: int,
    resized: Sequence[Num[np.ndarray, "_h2 _w2 c"]] | None = None,
) -> dict[str, np.ndarray]:
    """Returns a batch of `count` images, those that are missing blank.

    Args:
      images: of one grid, at their native sizes, as `as_stored` returns them.
      grid: theirs.
      preprocessing: of the model.
      count: at least the number of images.
      resized: the images as `resize_image` returns them, where that is done already.

    Returns:
      "image", [count, h, w, c], as stored, resized and padded; "size", int32[count, 2], of the images without padding;
      "native", int32[count, 2], before they were resized.
    """
    sizes, native = np.zeros((2, count, 2), np.int32)
    resized = [resize_image(image, preprocessing) for image in images] if resized is None else resized
    for i, (image, small) in enumerate(zip(images, resized, strict=True)):
        native[i], sizes[i] = image.shape[:2], small.shape[:2]
    batch = preprocessing.pad(resized, grid.padded)
    blank = np.zeros((count - len(images), *batch.shape[1:]), batch.dtype)
    return {"image": np.concatenate([batch, blank]) if len(blank) else batch, "size": sizes, "native": native}


def stacked_shapes(grid: Grid, bands: Bands, count: int, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a batch of `count` images that `stack` makes.

    Args:
      grid: of the images.
      bands: of the model.
      count: images of the batch.
      sharding: of the arrays, None on one device.
    """
    shapes = {"image": ((count, *grid.padded, bands.count), bands.dtype)}
    shapes |= {name: ((count, 2), "int32") for name in ("size", "native")}
    return {name: jax.ShapeDtypeStruct(*shape, sharding=sharding) for name, shape in shapes.items()}


class Groups:
    """Collects what has one grid into batches of `batch_size`.

    A batch that stays short is filled up to `batch_size` where a program for that exists, and else to a power of two.
    """

    def __init__(self, batch_size: int, multiple: int = 1):
        self.batch_size, self.multiple = batch_size, multiple
        self._waiting: dict[Grid, list[Any]] = {}
        self._full: set[Grid] = set()

    def add(self, grid: Grid, item: Any) -> tuple[Grid, list[Any], int] | None:
        """Returns (grid, items, number that the batch is to have) when a batch is full."""
        group = self._waiting.setdefault(grid, [])
        group.append(item)
        if len(group) < self.batch_size:
            return None
        self._full.add(grid)
        return grid, self._waiting.pop(grid), self.batch_size

    def rest(self) -> Iterator[tuple[Grid, list[Any], int]]:
        """Yields the batches that stayed short, by size."""
        for grid in sorted(self._waiting):
            items = self._waiting[grid]
            count = self.batch_size if grid in self._full else 1 << (len(items) - 1).bit_length()
            yield grid, items, min(-(-count // self.multiple) * self.multiple, self.batch_size)
        self._waiting = {}


def one_behind(results: Iterable[Result]) -> Iterator[Result]:
    """Yields every result when the next one has been asked for: a device, to which that sends work, is never idle.

    >>> def sent():
    ...     for i in range(2):
    ...         print("sent", i)
    ...         yield i
    >>> for i in one_behind(sent()):
    ...     print("read", i)
    sent 0
    sent 1
    read 0
    read 1
    """
    before: list[Result] = []
    for result in results:
        yield from before
        before = [result]
    yield from before


class Programs:
    """Compiled programs of a jitted function, one for each shape of its arguments; the least used are dropped.

    Args:
      function: of `jax.jit`, its last argument static.
      limit: number of programs that are kept.
    """

    def __init__(self, function: Callable[..., Any], limit: int = PROGRAMS):
        self._function, self._limit = function, limit
        self._programs: OrderedDict[Any, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._programs)

    def __call__(self, variables: Mapping[str, Any], batch: Mapping[str, Any], *others: Any, canvas: Size) -> Any:
        """Calls `function(variables, batch, *others, canvas)`; the shapes of the batch and `canvas` choose the program.

        Args:
          variables: of a model.
          batch: name -> array.
          *others: further arrays, whose shapes never change.
          canvas: the last argument, which is static.
        """
        return self._compiled(variables, batch, *others, canvas=canvas)(variables, batch, *others)

    def bytes(self, variables: Mapping[str, Any], batch: Mapping[str, Any], *others: Any, canvas: Size) -> int:
        """Returns the memory that the program for such arguments takes besides the variables, 0 if it is not known.

        The arguments are those of a call, or their shapes; nothing is computed.
        """
        try:
            found = self._compiled(variables, batch, *others, canvas=canvas).memory_analysis()
        except NotImplementedError:
            return 0
        return 0 if found is None else found.temp_size_in_bytes + found.output_size_in_bytes

    def _compiled(self, variables: Mapping[str, Any], batch: Mapping[str, Any], *others: Any, canvas: Size) -> Any:
        key = (canvas, *((name, value.shape, str(value.dtype)) for name, value in sorted(batch.items())))
        if key not in self._programs:
            self._programs[key] = self._function.lower(variables, batch, *others, canvas).compile()
            if len(self._programs) > self._limit:
                self._programs.popitem(last=False)
            self._function.clear_cache()  # which would hold every program, too, for ever
        self._programs.move_to_end(key)
        return self._programs[key]


def as_stored(image: Array | np.ndarray, bands: Bands) -> Num[np.ndarray, "h w c"]:
    """Returns an image as [h, w, c] of the bands' type: gray is repeated for RGB, transparency dropped, else an error.

    >>> from jaxseg.data.bands import RGB
    >>> as_stored(np.zeros((2, 3), np.uint8), RGB).shape
    (2, 3, 3)
    >>> as_stored(np.zeros((2, 3, 3)), RGB)
    Traceback (most recent call last):
    jaxseg.checks.UserError: Expected an image of uint8, got float64. Pass it as read from the file, not normalized, ...
    """
    image = np.asarray(image)
    if image.dtype.name != bands.dtype:
        raise UserError(
            f"Expected an image of {bands.dtype}, got {image.dtype}. Pass it as read from the file, not normalized,"
            f" {'0 to 255' if bands.dtype == 'uint8' else 'in stored values'}: the predictor does that."
        )
    if image.ndim == 2:
        image = image[..., None]
    if bands.is_rgb and image.ndim == 3 and image.shape[-1] in (1, 4):
        image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    if image.ndim != 3 or image.shape[-1] != bands.count or not image.size:
        raise UserError(
            f"Expected one image, {bands.dtype}[height, width, {bands.count}], got shape {np.shape(image)}. For"
            " several, call predict_batch with a list; channels come last."
        )
    return image


def shown_bands(
    images: Num[Array | np.ndarray, "b h w c"], preprocessing: Preprocessing
) -> Num[Array | np.ndarray, "b h w 3"]:
    """Returns what refiners look at: the bands that figures show, 0 to 255."""
    bands = preprocessing.bands
    return images if bands.is_rgb else bands.scale(images)[..., jnp.asarray(bands.shown)]
