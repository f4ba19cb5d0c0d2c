"""Labels in MATLAB's files (.mat), as SBD stores them: GTcls.Segmentation, class ids; read by SciPy."""

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    height, width = _segmentation(path, start).shape
    return Header(1, height, width, 1, "uint8", ("gray",), stored=("gray",))


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Raises a `UserError`: these files hold no images."""
    raise UserError(f"{path} is a file of MATLAB, of which labels are read (SBD), but no images. Save it as PNG.")


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the class ids."""
    stored.check_page(page, 1, path)
    return StoredLabel(stored.to_label(stored.crop(_segmentation(path, start), window), path))


def _segmentation(path: str, start: bytes) -> np.ndarray:
    from scipy.io import loadmat

    try:
        values = loadmat(path, variable_names=["GTcls"], squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
    except (KeyError, AttributeError):
        raise UserError(f"{path} holds no GTcls.Segmentation. Expected a file of SBD's folder cls.") from None
    except Exception as error:
        raise unreadable(path, error, b"" if start.startswith(b"MATLAB") else start) from None
    return np.atleast_2d(values)
