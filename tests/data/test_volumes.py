"""Volumes that lie in a patient: labels that lie elsewhere than their images, and sets that are turned several ways."""

import json

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data import check_dataset, create_dataset, report, verdict, volumes
from jaxseg.data.check import look
from jaxseg.data.volumes import volume_warnings, volumes_text

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(0)
SPACING = np.diag([0.8, 1.4, 5.0, 1.0])


def oblique(affine):
    a, b = np.deg2rad([20, 12])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    found = affine.copy()
    found[:3, :3] = turn @ affine[:3, :3]
    return found


def moved(affine, by):
    found = affine.copy()
    found[:3, 3] += by
    return found


def root(tmp_path, *pairs, code=2):
    """A data set of volumes, each with the affines of its image and its label."""
    for i, (image, label) in enumerate(pairs):
        for kind, affine in (("images", image), ("labels", label)):
            (tmp_path / "train" / kind).mkdir(parents=True, exist_ok=True)
            voxels = RNG.integers(0, 2, (12, 9, 4)).astype(np.uint8 if kind == "labels" else np.int16)
            volume = nibabel.Nifti1Image(voxels, affine)
            volume.set_sform(affine, code if kind == "labels" else 2)
            nibabel.save(volume, tmp_path / "train" / kind / f"p{i}.nii.gz")
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["other", "organ"]}))
    return tmp_path


def judged(where):
    dataset = create_dataset("folder", str(where))
    return verdict.judge(dataset, [look(dataset, "train", threads=1)])


@pytest.mark.parametrize("affine", [SPACING, oblique(SPACING), SPACING @ np.diag([-1, -1, 1, 1])])
def test_a_label_in_the_place_of_its_image_passes(tmp_path, affine):
    """Also one whose affine was rounded, by up to half a voxel."""
    found = root(tmp_path, (affine, affine), (affine, moved(affine, (0.3, 0, 0))))
    check_dataset(create_dataset("folder", str(found)), "train")
    assert not judged(found).errors


@pytest.mark.parametrize(
    "label,words",
    [
        (SPACING @ np.diag([-1, 1, 1, 1]), r"\(LAS\) and at .* \(RAS\)"),
        (moved(SPACING, (0, 40, 0)), r"voxel \(0, 0, 0\) is at \(0.0, 40.0, 0.0\) mm in the label"),
        (np.eye(4), "save the label with the affine of its image"),
        (oblique(SPACING), "lies elsewhere than its image"),
    ],
)
def test_a_label_that_lies_elsewhere_is_refused(tmp_path, label, words):
    found = root(tmp_path, (SPACING, label))
    with pytest.raises(UserError, match=words):
        check_dataset(create_dataset("folder", str(found)), "train")
    assert "lies elsewhere than its image" in judged(found).errors[0].sentence


def test_a_label_that_does_not_say_where_it_lies_passes(tmp_path):
    check_dataset(create_dataset("folder", str(root(tmp_path, (SPACING, np.eye(4)), code=0))), "train")


def test_volumes_that_are_turned_several_ways_are_told(tmp_path):
    turned = SPACING @ np.diag([-1, -1, 1, 1])
    found = judged(root(tmp_path, (SPACING, SPACING), (turned, turned), (turned, turned)))
    assert any("rows and columns lead to LP in 8, RA in 4 slices" in said for said in found.warnings)
    told = "volumes LPS in 8, RAS in 4 slices; pixels of 0.8 x 1.4 mm (height x width), slices 5 mm apart"
    assert told in report.text(found)


def test_of_the_slices_of_a_volume_one_is_looked_at(monkeypatch):
    looked = []
    for name in ("axes", "spacing"):
        original = getattr(volumes, name)
        monkeypatch.setattr(volumes, name, lambda affine, of=original: looked.append(affine) or of(affine))
    affines = [tuple(map(tuple, affine.tolist())) for affine in (SPACING, oblique(SPACING))] * 400
    assert volumes_text(affines).startswith("RAS; pixels of 0.8 x 1.4 mm")
    assert volume_warnings("train", affines) == []
    assert len(looked) < 20  # of 800 slices


def test_volumes_of_several_scales_are_told(tmp_path):
    fine = SPACING @ np.diag([0.5, 0.5, 1, 1])
    found = judged(root(tmp_path, (SPACING, SPACING), (fine, fine)))
    assert any("the sides of pixels are 0.4 to 1.4 mm" in said for said in found.warnings)
    upside_down = SPACING @ np.diag([1, 1, -1, 1])  # which no slice shows
    assert not judged(root(tmp_path / "b", (SPACING, SPACING), (upside_down, upside_down))).warnings
