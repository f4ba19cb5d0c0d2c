"""The folder of compiled programs: what is broken in it is written anew."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.cli.launch import _show_warning
from jaxseg.experiment.compile_cache import drop_broken
from jaxseg.experiment.workdir import enable_compilation_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from jax.experimental import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    names += ("jax_persistent_cache_min_entry_size_bytes",)
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.compilation_cache.reset_cache()
    enable_compilation_cache(str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.compilation_cache.reset_cache()


def _compile():
    jax.clear_caches()
    jax.jit(lambda x: jnp.sin(x) * 3 + 1).lower(jnp.ones(7)).compile()


def test_a_broken_entry_is_compiled_once_more_and_not_at_each_start(folder, capsys, monkeypatch):
    import warnings

    _compile()
    (file,) = folder.glob("jit__lambda*-cache")
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b""):
        file.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "showwarning", _show_warning)
            _compile()
        assert "was broken; it is compiled and written again" in capsys.readouterr().err
        assert len(file.read_bytes()) > len(whole) // 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _compile()


def test_other_warnings_and_other_programs_are_left_alone(folder):
    (folder / "jit_other-abc-cache").write_bytes(b"broken, but not meant")
    assert drop_broken("The disk is slow.") is None
    assert drop_broken("Error reading persistent compilation cache entry for 'jit_step': EOFError: end")
    assert (folder / "jit_other-abc-cache").exists()


def test_a_folder_that_cannot_be_is_said_and_stops_nothing(folder, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "~nobody-of-this-name/compiled"):
        with pytest.warns(UserWarning, match="can't be kept in .*: each start compiles them again. Name another"):
            enable_compilation_cache(str(place))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path), "the one before stays"


def test_a_folder_that_vanished_stops_nothing(folder, tmp_path):
    """What is raised while a warning is shown would end the run."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "gone"))
    said = drop_broken("Error reading persistent compilation cache entry for 'jit_step': FileNotFoundError: gone")
    assert said.startswith("A compiled program in") and "No such file" in said
