"""What a release must say alike everywhere."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import jaxseg

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert PROJECT["version"] == jaxseg.__version__ == cited == released[0]
    numbers = [tuple(map(int, version.split("."))) for version in released]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == len(numbers)
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{released[0]}]")


def test_the_hook_checks_the_style_with_the_version_that_the_tests_install():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (pinned,) = [p for p in PROJECT["optional-dependencies"]["test"] if p.startswith("ruff")]
    assert f"ruff=={repo['rev'].removeprefix('v')}" == pinned


def test_the_forms_ask_for_what_the_program_prints():
    forms = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))]
    assert len(forms) >= 3
    for form in forms:
        assert {"name", "description", "body"} <= form.keys()
        assert [part for part in form["body"] if part.get("validations", {}).get("required")]
    assert any("jaxseg environment" in str(form) for form in forms)


@pytest.mark.parametrize("version", [".*", "0.2", "v0.2.0", "0x2.0"])
def test_what_is_no_version_is_not_released(version):
    """The versions of the files are looked for by grep, to which '.*' is any."""
    done = subprocess.run([ROOT / ".ci/release", version], capture_output=True, text=True, env={"SKIP_CI": "1"})
    assert done.returncode == 1
    assert done.stdout == f"A version is three numbers, as in .ci/release 0.2.0; got {version}.\n"
