"""NIfTI in, NIfTI out: the label map of a volume lies where the image lies, millimeter by millimeter."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.trained import TrainedModel

nibabel = pytest.importorskip("nibabel")
SHAPE = (17, 12, 5)


class Threshold:
    """Above 127 of 255 it is an organ."""

    def apply(self, variables, images, *, train):
        import jax.numpy as jnp

        return {"logits": jnp.concatenate([127.5 - images, images - 127.5], -1) * variables["sign"]}


MODEL = Threshold()


@pytest.fixture(autouse=True)
def model(monkeypatch):
    def load(source, checkpoint):
        bands = Bands(("gray",), "int16", (0, 1000))
        return TrainedModel(
            MODEL,
            {"sign": np.float32(-1 if "inverted" in str(source) else 1)},
            preprocessing=Preprocessing((0.0,), (1.0,), bands),
            classes=("other", "organ"),
            palette=((0, 0, 0), (255, 0, 0)),
            ignore=255,
            values=(0, 4),
        )

    monkeypatch.setattr("jaxseg.trained.load", load)


def affines():
    """Voxels of three sizes: as stored, mirrored (LPS), lying on the side, oblique."""
    plain = np.diag([0.8, 1.4, 5.0, 1.0])
    plain[:3, 3] = (-30, 12.5, -77)
    yield "ras", plain
    yield "lps", np.diag([-1.0, -1, 1, 1]) @ plain
    yield "sagittal", plain[[2, 0, 1, 3]]
    angle = np.deg2rad(25)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    yield "oblique", turn @ plain


def phantom():
    """An L that is nowhere its own mirror image, in the slices 1 to 3."""
    organ = np.zeros(SHAPE, bool)
    organ[2:12, 3:5, 1:4] = organ[10:12, 3:9, 1:4] = organ[2, 7, 1] = True
    return organ


def write(path, affine, *, shape=SHAPE, **fields):
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(np.where(phantom(), 900, 100).astype(np.int16).reshape(shape), affine)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return nibabel.load(path)


def predict(*arguments, model="a workdir"):
    return call("predict", model, *map(str, arguments))


def in_world(volume):
    """The millimeters of all voxels of the organ, sorted."""
    voxels = np.argwhere(np.asarray(volume.dataobj) > 0)
    found = nibabel.affines.apply_affine(volume.affine, voxels)
    return found[np.lexsort(found.round(6).T)]


@pytest.mark.parametrize("name,affine", list(affines()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
def test_labels_lie_where_the_image_lies(tmp_path, name, affine, end, capsys):
    image = write(tmp_path / "in" / f"ct{end}", affine, descrip=b"Jane Doe", cal_max=300)
    assert predict(tmp_path / "in", "--out", tmp_path / "out") == 0
    label = nibabel.load(tmp_path / "out" / "ct_label.nii.gz")
    assert label.get_data_dtype() == np.uint8
    assert label.shape == image.shape
    np.testing.assert_array_equal(label.affine, image.affine)
    assert nibabel.aff2axcodes(label.affine) == nibabel.aff2axcodes(image.affine)
    for field in ("sform_code", "qform_code", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(label.header[field], image.header[field])
    np.testing.assert_array_equal(np.asarray(label.dataobj), phantom())
    true = nibabel.Nifti1Image(phantom().astype(np.uint8), affine)
    np.testing.assert_allclose(in_world(label), in_world(true), atol=1e-4)
    assert not label.header["descrip"].item() and label.header["cal_max"] == 0
    assert "5 of 5 images predicted, 1 NIfTI volume written" in capsys.readouterr().out


def test_values_are_those_of_the_data_set(tmp_path):
    write(tmp_path / "in" / "ct.nii.gz", np.eye(4))
    assert predict(tmp_path / "in", "--values", "--out", tmp_path / "out") == 0
    np.testing.assert_array_equal(nibabel.load(tmp_path / "out" / "ct.nii.gz").get_fdata(), 4 * phantom())
    with pytest.raises(UserError, match="ct.nii.gz is one of the images and would be overwritten"):
        predict(tmp_path / "in", "--values", "--out", tmp_path / "in")
    assert nibabel.load(tmp_path / "in" / "ct.nii.gz").get_fdata().max() == 900


def test_two_axes_stay_two(tmp_path):
    write(tmp_path / "in" / "a.nii.gz", np.eye(4), shape=(17, 60))
    assert predict(tmp_path / "in", "--out", tmp_path / "out") == 0
    label = nibabel.load(tmp_path / "out" / "a_label.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), phantom().reshape(17, 60))


def test_the_process_that_ends_last_writes_the_volume(tmp_path):
    write(tmp_path / "in" / "ct.nii.gz", np.eye(4))
    out, volume = tmp_path / "out", tmp_path / "out" / "ct_label.nii.gz"
    assert predict(tmp_path / "in", "--process", "0/2", "--out", out) == 0
    assert not volume.exists()
    assert predict(tmp_path / "in", "--process", "1/2", "--out", out) == 0
    np.testing.assert_array_equal(np.asarray(nibabel.load(volume).dataobj), phantom())


def test_going_on_makes_the_volume_of_what_was_there(tmp_path):
    write(tmp_path / "in" / "ct.nii.gz", np.eye(4))
    out, volume = tmp_path / "out", tmp_path / "out" / "ct_label.nii.gz"
    assert predict(tmp_path / "in", "--out", out) == 0
    whole = volume.read_bytes()
    for lost in ((), ("ct[2]_label.png",)):
        volume.unlink()
        for name in lost:
            (out / name).unlink()
        assert predict(tmp_path / "in", "--skip-existing", "--out", out) == 0
        assert volume.read_bytes() == whole
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(out / "ct[1]_label.png")
    (out / "ct[2]_label.png").unlink()
    assert predict(tmp_path / "in", "--skip-existing", "--out", out) == 1  # a slice of another image


def test_one_volume_that_cannot_be_made_stops_no_other(tmp_path, capsys):
    """Going on, all slices are there: those of the first are of another image than it is now."""
    for name in "ab":
        write(tmp_path / "in" / f"{name}.nii.gz", np.eye(4))
    out = tmp_path / "out"
    assert predict(tmp_path / "in", "--out", out) == 0
    for name in "ab":
        (out / f"{name}_label.nii.gz").unlink()
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(out / "a[1]_label.png")
    assert predict(tmp_path / "in", "--skip-existing", "--out", out) == 1
    assert not (out / "a_label.nii.gz").exists() and (out / "b_label.nii.gz").exists()
    assert "a[1]_label.png is of another image" in capsys.readouterr().err


def test_an_affine_that_is_no_number_is_kept_as_it_is(tmp_path):
    write(tmp_path / "in" / "ct.nii", np.eye(4))
    data = bytearray((tmp_path / "in" / "ct.nii").read_bytes())
    data[280:296] = np.full(4, np.nan, np.float32).tobytes()  # srow_x of the header
    (tmp_path / "in" / "ct.nii").write_bytes(data)
    assert predict(tmp_path / "in", "--out", tmp_path / "out") == 0
    label = nibabel.load(tmp_path / "out" / "ct_label.nii.gz")
    assert np.isnan(label.header["srow_x"]).all()
    np.testing.assert_array_equal(np.asarray(label.dataobj), phantom())


def test_no_volume_is_made_of_slices_of_two_models(tmp_path, capsys):
    """One of its slices can't be written: the one that is there is an earlier model's."""
    write(tmp_path / "in" / "ct.nii.gz", np.eye(4))
    out = tmp_path / "out"
    assert predict(tmp_path / "in", "--out", out) == 0
    before = (out / "ct_label.nii.gz").read_bytes()
    (out / "ct[3]_overlay.png").unlink()
    (out / "ct[3]_overlay.png").mkdir()
    assert predict(tmp_path / "in", "--out", out, model="inverted") == 1
    assert (out / "ct_label.nii.gz").read_bytes() == before
    assert "1 not predicted" in capsys.readouterr().err
