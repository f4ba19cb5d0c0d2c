"""Where volumes lie in the patient: an image and its label in one place, the volumes of a set turned one way."""

import collections
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data import readers

NEAR = 0.5  # of the smallest side of a voxel: what is apart by less is rounding
UNLIKE = 1.25  # ratio of the sides of pixels from which on a set has several scales

Affine = tuple[tuple[float, ...], ...]


def check_place(image: str | Path, label: str | Path) -> None:
    """Raises a `UserError` if a label says that it lies elsewhere in the patient than its image.

    Files that do not say where they lie, and those of other sizes, which is said elsewhere, pass.
    """
    one, other = readers.header(image), readers.header(label, label=True)
    size = one.height, one.width, one.pages
    if one.affine is None or other.affine is None or size != (other.height, other.width, other.pages):
        return
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size), (1,))))
    here, there = (corners @ np.array(affine).T[:, :3] for affine in (one.affine, other.affine))
    apart = np.linalg.norm(here - there, axis=1)
    worst = apart.argmax()
    if apart[worst] <= NEAR * min(spacing(one.affine)):
        return
    voxel, (x, y, z), (u, v, w) = tuple(corners[worst, :3].tolist()), here[worst], there[worst]
    raise UserError(
        f"{label} lies elsewhere than its image {image}: by their affines, voxel {voxel} is at ({u:.1f}, {v:.1f},"
        f" {w:.1f}) mm in the label ({axes(other.affine)}) and at ({x:.1f}, {y:.1f}, {z:.1f}) mm in the image"
        f" ({axes(one.affine)}). If the voxels correspond as they are stored, save the label with the affine of its"
        " image: nibabel.Nifti1Image(label.dataobj, image.affine). Else resample it onto the grid of the image, with"
        " nearest neighbors."
    )


def axes(affine: Affine) -> str:
    """Returns where row, column and page lead to in the patient, as letters: R(ight), A(nterior), S(uperior), L, P, I.

    >>> axes(((-0.8, 0, 0, 9), (0, 1.4, 0.1, 9), (0, -0.1, 5, 9), (0, 0, 0, 1)))
    'LAS'
    """
    steps = np.array(affine)[:3, :3] / np.maximum(spacing(affine), 1e-12)
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(steps[p[i], i]) for i in range(3)))
    return "".join(("LR", "PA", "IS")[order[i]][int(steps[order[i], i] > 0)] for i in range(3))


def spacing(affine: Affine) -> tuple[float, float, float]:
    """Returns how far rows, columns and pages are apart, millimeters.

    >>> spacing(((0, 3.0, 0, 9), (4.0, 0, 0, 9), (0, 0, 5.0, 9), (0, 0, 0, 1)))
    (4.0, 3.0, 5.0)
    """
    return tuple(np.linalg.norm(np.array(affine)[:3, :3], axis=0).tolist())


def volumes_text(affines: Sequence[Affine]) -> str:
    """Returns how volumes lie, by the affines of all their slices, and how large their voxels are."""
    ways = _ways(affines)
    several = listing([f"{way} in {count}" for way, count in ways.most_common()], 6)
    told = f"{several} slices" if len(ways) > 1 else several.partition(" ")[0]
    sides = np.array([spacing(affine) for affine in set(affines)])
    low, high = sides.min(0), sides.max(0)
    ends = [f"{a:.3g}" if b <= 1.001 * a else f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)]
    return f"{told}; pixels of {ends[0]} x {ends[1]} mm (height x width), slices {ends[2]} mm apart"


def volume_warnings(split: str, affines: Sequence[Affine]) -> list[str]:
    """Returns warnings about volumes of a split that are turned several ways, or whose pixels have several sizes."""
    said = []
    ways: collections.Counter[str] = collections.Counter()
    for way, count in _ways(affines).items():
        ways[way[:2]] += count
    if len(ways) > 1:
        said.append(
            f"{split}: rows and columns lead to {listing([f'{way} in {n}' for way, n in ways.most_common()], 8)}"
            " slices. Slices are read as stored, so the same organ is mirrored or turned in some. Turn images and"
            " labels of all volumes one way, also those that are predicted later: nibabel.as_closest_canonical."
        )
    sides = np.array([spacing(affine)[:2] for affine in set(affines)])
    if (sides.max(0) > UNLIKE * sides.min(0)).any():
        low, high = sides.min(), sides.max()
        said.append(
            f"{split}: the sides of pixels are {low:.3g} to {high:.3g} mm, not alike in all volumes. Nothing is"
            " resampled, so the same organ has several sizes: resample the volumes, labels with nearest neighbors, or"
            " let augment.scale cover the range."
        )
    return said


def _ways(affines: Sequence[Affine]) -> collections.Counter[str]:
    """How many slices lie in each way; a volume's many have one affine, which is looked at once."""
    ways: collections.Counter[str] = collections.Counter()
    for affine, count in collections.Counter(affines).items():
        ways[axes(affine)] += count
    return ways
