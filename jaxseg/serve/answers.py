"""What a client gets: a label map as PNG or as numbers, its regions as GeoJSON, or probabilities."""

import io
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

from jaxseg.data.readers import geo
from jaxseg.files import short
from jaxseg.inference.refine import REFINERS
from jaxseg.serve.uploads import Refused
from jaxseg.trained import TrainedModel
from jaxseg.visualize.images import palette_image

LABEL, IDS, POLYGONS, PROBABILITIES, BOTH = "label", "ids", "polygons", "probabilities", "ids_and_probabilities"
ANSWERS = (LABEL, IDS, POLYGONS, PROBABILITIES, BOTH)
TYPES = ("float32", "float16", "uint8")
# What a request may choose where the server lets it, as `jaxseg demo` does.
CHOICES = {"tta": ("none", "flip", "d4", "flip,0.75,1.25"), "refine": ("none", *REFINERS)}


class Answer(NamedTuple):
    """A body and its media type."""

    body: bytes
    media_type: str


class Wish(NamedTuple):
    """What a request asks for.

    Args:
      answer: one of `ANSWERS`.
      type: one of `TYPES`, of probabilities.
      tta: one of `CHOICES`; "" is the server's own.
      refine: likewise; "" is the server's own.
    """

    answer: str = LABEL
    type: str = "float32"
    tta: str = ""
    refine: str = ""


def read_wish(query: Mapping[str, str], *, choices: bool = False) -> Wish:
    """Returns what the parameters of a request ask for.

    Args:
      query: the parameters.
      choices: whether a request may choose `CHOICES`.

    >>> read_wish({"answer": "probabilities", "type": "uint8"}).type
    'uint8'
    """
    known = {"answer": ANSWERS, "type": TYPES, **(CHOICES if choices else {})}
    for name, value in query.items():
        if name not in known:
            raise Refused(400, f"Unknown parameter {short(name)}. Known: {', '.join(known)}.")
        if value not in known[name]:
            raise Refused(400, f"The parameter {name} is one of {', '.join(known[name])}, got {short(value)}.")
    wish = Wish(**query)
    if wish.answer == BOTH and query.get("type", "uint8") != "uint8":
        raise Refused(400, f"The probabilities of answer={BOTH} are of the type uint8.")
    if wish.answer == POLYGONS and not geo.is_installed():
        raise Refused(501, "Polygons need rasterio, which this server lacks: pip install 'jaxseg[geo]'.")
    return wish


def label_answer(label: Integer[np.ndarray, "h w"], trained: TrainedModel) -> Answer:
    """Returns a palette PNG of class ids; of more than 256 classes a gray one of 16 bits."""
    from PIL import Image

    buffer = io.BytesIO()
    if len(trained.classes) <= 256 and label.max() <= 255:
        palette_image(label, trained.palette, ignore=trained.ignore).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(label.astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    return Answer(buffer.getvalue(), "image/png")


def ids_answer(label: Integer[np.ndarray, "h w"], trained: TrainedModel) -> Answer:
    """Returns a .npy file of class ids [h, w], uint8 or, where that does not hold them, uint16."""
    largest = max(len(trained.classes) - 1, int(label.max()))
    return _npy(label.astype(np.uint8 if largest <= 255 else np.uint16))


def both_answer(
    label: Integer[np.ndarray, "h w"], probabilities: UInt8[np.ndarray, "h w c"], trained: TrainedModel
) -> Answer:
    """Returns two .npy files, one after the other: class ids, and probabilities in units of 1/255."""
    files = ids_answer(label, trained), _npy(probabilities)
    return Answer(b"".join(file.body for file in files), files[0].media_type)


def polygons_answer(label: Integer[np.ndarray, "h w"], trained: TrainedModel) -> Answer:
    """Returns GeoJSON: the outline, (column, row) in pixels, of every connected region of a class."""
    found = geo.polygons(label, None, label != trained.ignore)
    features = list(geo.region_features(found, dict(enumerate(enumerate(trained.classes)))))
    document = {"type": "FeatureCollection", "features": features}
    return Answer(json.dumps(document).encode(), "application/geo+json")


def probabilities_answer(probabilities: Float[np.ndarray, "h w c"], dtype: str) -> Answer:
    """Returns a .npy file [h, w, label]; of uint8, 255 stands for 1.

    >>> np.load(io.BytesIO(probabilities_answer(np.array([[[0.2, 0.8]]]), "uint8").body)).tolist()
    [[[51, 204]]]
    """
    values = np.rint(probabilities * 255) if dtype == "uint8" else probabilities
    return _npy(values.astype(dtype))


def _npy(values: np.ndarray) -> Answer:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return Answer(buffer.getvalue(), "application/x-npy")


def describe(trained: TrainedModel, *, choices: bool = False) -> dict[str, object]:
    """Returns what a client must know of a model: its classes, colors and bands, as JSON types.

    Args:
      trained: the model.
      choices: whether a request may choose `CHOICES`, which are then listed.
    """
    bands = trained.bands
    return {
        "classes": list(trained.classes),
        "palette": [list(color) for color in trained.palette],
        "ignore": trained.ignore,
        "bands": list(bands.names),
        "dtype": bands.dtype,
        "activation": trained.activation,
        "source": trained.source,
        "choices": CHOICES if choices else {},
    }
