"""Checkpoints that were damaged: noticed in every file, told in a sentence, and the one before is used."""

import contextlib
import io
import itertools
import os
import shutil
import tarfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.checkpoint import Checkpoints, check_place
from jaxseg.experiment.digests import digest
from jaxseg.experiment.reading import Damaged
from jaxseg.experiment.state import create_state, eval_variables
from jaxseg.experiment.workdir import has_checkpoint

BEFORE = Path(__file__).parents[1] / "data_before"


def _state(step, *, ema=False):
    kernel = np.random.default_rng(0).standard_normal((20, 30), np.float32) + step
    variables = {"params": {"head": {"kernel": kernel}}, "batch_stats": {"mean": np.full(2, step, np.float32)}}
    return create_state(jax.tree.map(jnp.asarray, variables), optax.adam(1e-3), ema=ema).replace(step=jnp.int32(step))


def _save(workdir, *steps, **options):
    checkpoints = Checkpoints(workdir, writable=True, **options)
    for step in steps:
        checkpoints.save(step, _state(step), {"iterator": {"next_index": step}})
    checkpoints.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    _save(workdir, 10, 16)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def _damage(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "delete":
        path.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 0x40]) + content[middle + 1 :] if content else b"x"
        path.write_bytes({"empty": b"", "half": content[:middle], "flip": flipped}[how])


def _arrays(folder):
    """The files with the values of the parameters."""
    return sorted((folder / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)


def test_every_file_of_the_newest_may_be_damaged(whole, tmp_path):
    """What comes back is step 16 to the bit, or step 10 with a sentence, and never anything else."""
    files = sorted(path for path in (whole / "checkpoints" / "16").rglob("*") if path.is_file())
    states = {step: (_state(step), {"iterator": {"next_index": step}}) for step in (10, 16)}
    like, seen = jax.eval_shape(lambda: _state(0)), set()
    for file, (one, other) in zip(files, itertools.cycle([("delete", "flip"), ("empty", "half")]), strict=False):
        hows = ("delete", "empty", "half", "flip") if file.parent.name in ("data", "digests") else (one, other)
        for how in hows:
            workdir = shutil.copytree(whole, tmp_path / "run", symlinks=True)
            _damage(workdir / file.relative_to(whole), how)
            checkpoints = Checkpoints(workdir, writable=True)
            with contextlib.redirect_stderr(io.StringIO()) as said:
                found = checkpoints.restore_latest(like)
            step = int(found[0].step)
            chex.assert_trees_all_equal(found, states[step])
            aside = (workdir / "checkpoints" / "16.damaged").is_dir()
            assert aside == (step == 10) == ("16 is damaged and was renamed to 16.damaged" in said.getvalue())
            checkpoints.close()
            seen.add(step)
            shutil.rmtree(workdir)
    assert seen == {10, 16}, "some files hold nothing that is needed"


def test_a_flipped_bit_in_the_weights_is_noticed(workdir):
    path = _arrays(workdir / "checkpoints" / "16")[-1]
    content = bytearray(path.read_bytes())
    where = content.find(np.asarray(_state(16).params["head"]["kernel"])[3, 3:6].tobytes())
    if where < 0:  # compressed
        where = len(content) // 2
    content[where] ^= 1
    path.write_bytes(bytes(content))
    checkpoints = Checkpoints(workdir)
    with pytest.raises(Damaged, match="16"):
        checkpoints.restore(16, _state(0))
    with pytest.raises(Damaged, match="16.*--checkpoint"):
        checkpoints.load("16")
    with pytest.warns(UserWarning, match="Checkpoint 16 is damaged, 10 is taken instead"):
        step, variables = checkpoints.load("latest")
    assert step == 10
    chex.assert_trees_all_equal(variables, eval_variables(_state(10)))
    assert (workdir / "checkpoints" / "16").is_dir(), "readers change nothing"


def test_other_values_of_whole_files_are_noticed(workdir):
    """Files of another checkpoint are valid in themselves."""
    shutil.rmtree(workdir / "checkpoints" / "16" / "state")
    shutil.copytree(workdir / "checkpoints" / "10" / "state", workdir / "checkpoints" / "16" / "state")
    with pytest.raises(Damaged, match="other values than were written, in .*step"):
        Checkpoints(workdir).restore(16, _state(0))
    with pytest.raises(Damaged, match="other values than were written, in .*params/head/kernel"):
        Checkpoints(workdir).restore_variables(16)


def test_without_a_whole_one_nothing_is_renamed(workdir):
    for step in (10, 16):
        (workdir / "checkpoints" / str(step) / "state" / "manifest.ocdbt").unlink()
    checkpoints = Checkpoints(workdir, writable=True)
    with pytest.raises(UserError, match=r"No checkpoint of .* can be read:\n(.*\n)*Copy them again"):
        checkpoints.restore_latest(_state(0))
    assert checkpoints.steps() == [10, 16]
    checkpoints.close()


def test_numbers_without_a_state_are_set_aside_so_that_the_run_can_save(workdir, capsys):
    """Orbax would take them for checkpoints, and save none before them."""
    (workdir / "checkpoints" / "18").mkdir()
    (workdir / "checkpoints" / "notes.txt").write_text("")
    assert Checkpoints(workdir).latest() == 16
    checkpoints = Checkpoints(workdir, writable=True)
    state, data = checkpoints.restore_latest(_state(0))
    checkpoints.save(17, state, data)
    checkpoints.close()
    assert checkpoints.latest() == 17
    assert "checkpoint 18 is damaged and was renamed to 18.damaged: it holds no state" in capsys.readouterr().err


def test_steps_after_the_one_set_aside_can_be_saved_again(workdir):
    (workdir / "checkpoints" / "16" / "data" / "metadata").unlink()
    checkpoints = Checkpoints(workdir, writable=True)
    state, data = checkpoints.restore_latest(_state(0))
    for step in (12, 16):
        checkpoints.save(step, state, data)
    checkpoints.close()
    assert checkpoints.steps() == [12, 16]


def test_the_next_best_is_taken_for_a_damaged_best(tmp_path):
    _save(tmp_path, 1, 2, 3, keep=3)
    rows = [f'{{"kind": "eval", "step": {step}, "miou": {miou}}}\n' for step, miou in ((1, 0.5), (2, 0.7), (3, 0.1))]
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    (tmp_path / "checkpoints" / "2" / "state" / "_METADATA").unlink()
    with pytest.warns(UserWarning, match="Checkpoint 2 is damaged, 1 is taken instead"):
        assert Checkpoints(tmp_path).load("best")[0] == 1


def test_a_checkpoint_under_another_number_is_damaged(workdir, capsys):
    """Its digests are right; a run would say that it goes on from 1000, and could save nothing after it."""
    shutil.copytree(workdir / "checkpoints" / "10", workdir / "checkpoints" / "1000")
    with pytest.raises(Damaged, match="it is a copy of checkpoint 10 under another number"):
        Checkpoints(workdir).load("1000")
    checkpoints = Checkpoints(workdir, writable=True)
    assert int(checkpoints.restore_latest(_state(0))[0].step) == 16
    checkpoints.close()
    assert "checkpoint 1000 is damaged and was renamed to 1000.damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["018", "1٨", "²", "-18", "18.damaged"])
def test_what_only_looks_like_a_number_is_no_checkpoint(workdir, name):
    shutil.copytree(workdir / "checkpoints" / "16", workdir / "checkpoints" / name)
    assert Checkpoints(workdir).steps() == [10, 16]
    shutil.rmtree(workdir / "checkpoints" / "10")
    shutil.rmtree(workdir / "checkpoints" / "16")
    assert not has_checkpoint(workdir)


@pytest.mark.parametrize("file", ["state/_METADATA", "state/manifest.ocdbt", "data/metadata", "digests/process_0.json"])
def test_pipes_devices_and_giants_in_a_checkpoint_are_not_read(workdir, file):
    """A pipe is waited for without end, a device has no end, and a file with a hole takes no disk but all memory."""
    path = workdir / "checkpoints" / "16" / file

    def refused(words):
        with pytest.raises(Damaged, match=words):
            Checkpoints(workdir).load("16")
        with pytest.raises(Damaged, match=words):
            Checkpoints(workdir).restore(16, jax.eval_shape(lambda: _state(0)))
        path.unlink()

    with path.open("r+b") as sparse:
        sparse.truncate(2**34)
    refused("has more than 16 MiB")
    os.mkfifo(path)
    refused("a pipe or a device")
    path.symlink_to("/dev/zero")
    refused("a pipe or a device")


def test_what_orbax_logs_of_whole_and_of_damaged_checkpoints_is_not_shown(workdir, caplog):
    """A program that uses jaxseg as a library shows all that is logged at this level, at every load."""
    Checkpoints(workdir).load("10")
    Checkpoints(workdir).restore(10, _state(0))
    for path in _arrays(workdir / "checkpoints" / "16"):
        path.unlink()
    with pytest.raises(Damaged):
        Checkpoints(workdir).load("16")
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


def test_best_does_not_silently_mean_newest(workdir):
    with pytest.warns(UserWarning, match="the best one is not known; the newest is taken, step 16"):
        assert Checkpoints(workdir).resolve("best") == 16


def test_a_checkpoint_that_was_not_written_where_it_is_read_is_noticed_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, writable=True)
    checkpoints.save(1, _state(1), {})
    checkpoints.wait()
    (tmp_path / "checkpoints" / "1" / "state" / "_METADATA").unlink()
    with pytest.raises(UserError, match="what was written can't be read back"):
        checkpoints.check()
    checkpoints.close()


def test_the_oldest_supported_orbax_wrote_what_the_newest_reads(tmp_path):
    with tarfile.open(BEFORE / "orbax_0_11_25.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    checkpoints = Checkpoints(tmp_path / "run")
    variables = {"params": {"head": {"kernel": jnp.arange(6.0).reshape(2, 3)}}}
    variables["batch_stats"] = {"head": {"mean": jnp.arange(2.0)}}
    state, data = checkpoints.restore(2, create_state(variables, optax.adam(1e-3), ema=True))
    np.testing.assert_array_equal(state.params["head"]["kernel"], 2 * variables["params"]["head"]["kernel"])
    assert (int(state.step), data) == (2, {"iterator": {"next_index": 2}})
    step, averaged = checkpoints.load("latest")
    assert step == 2
    chex.assert_trees_all_equal(averaged, variables)


def test_a_bracket_in_the_path_is_refused_before_anything_is_written(tmp_path):
    workdir = tmp_path / "run[lr=0.1]"
    with pytest.raises(UserError, match="has a bracket in it.*Name a folder without"):
        check_place(workdir)
    with pytest.raises(UserError, match="bracket"):
        Checkpoints(workdir, writable=True)
    assert not workdir.exists()
    _save(tmp_path / "a{b}*?#%20 é", 1)
    assert Checkpoints(tmp_path / "a{b}*?#%20 é").load("latest")[0] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, bool, np.int64, jnp.bfloat16])
def test_a_digest_notices_any_change_of_one_element(dtype):
    values = np.asarray(np.arange(70_000).reshape(700, 100) % 2, dtype)
    before, words = digest(values), values.reshape(-1).view(np.uint8)
    for place in (0, 1234, 65_600, words.size - 1):
        words[place] ^= 1
        assert digest(values) != before
        words[place] ^= 1
    moved = values[::-1].copy()
    assert digest(moved) == digest(values) if np.array_equal(moved, values) else digest(moved) != before
    assert digest(np.roll(values, 1)) != before and digest(values) == before
