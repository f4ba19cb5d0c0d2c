"""The environment that a report of an error needs: also where JAX cannot start, and without secrets."""

import json
import os
import subprocess
import sys

import jax

from jaxseg.cli.program import main


def test_a_table_of_versions_devices_and_jaxs_own_variables(capsys, monkeypatch):
    monkeypatch.setenv("JAX_OF_A_TEST", "1")
    monkeypatch.setenv("HF_TOKEN", "a secret")
    assert main(["environment"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["jax"] == jax.__version__
    assert rows["devices"] == ", ".join(map(str, jax.devices()))
    assert rows["kinds"] == jax.devices()[0].device_kind
    assert rows["JAX_OF_A_TEST"] == "1"
    assert "a secret" not in rows.values()


def test_versions_are_told_where_jax_finds_no_device():
    command = [sys.executable, "-m", "jaxseg", "environment", "--json"]
    broken = {**os.environ, "JAX_PLATFORMS": "nonesuch"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=broken)
    found = json.loads(done.stdout)
    assert found["versions"]["jax"] == jax.__version__
    assert (found["backend"], found["devices"]) == (None, [])
    assert "nonesuch" in found["failure"]
