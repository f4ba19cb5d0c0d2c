"""Builds the site.

    python -m docs.make                 # into site/; open site/index.html, or python -m http.server -d site
    python -m docs.make --out DIR

It needs `pip install -e '.[docs]'` and no network, and fails where the builder warns, a link leads nowhere, or a page
would fetch something from elsewhere.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.make import check, contents, messages, pages, reference

STYLE = Path(__file__).parent / "site.css"


def build(out: Path, source: Path) -> list[str]:
    """Builds the site, and returns what is wrong with it.

    Args:
      out: the folder of the site; what was in it is replaced.
      source: an empty folder for the pages that it is built from.
    """
    docs = source / "docs"
    docs.mkdir(parents=True)
    pages.lay_out(docs)
    reference.write(docs / "api")
    messages.write(docs / "messages.md")
    _settings(docs)
    shutil.copyfile(STYLE, docs / "site.css")
    (source / "zensical.toml").write_text(configuration(docs))
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=source, capture_output=True, text=True,
    )  # fmt: skip
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    if done.returncode or "No issues found" not in said:
        return [said]
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source / "site", out)
    return check.problems(out)


def _settings(docs: Path) -> None:
    """The page of every setting is there, whoever links to it."""
    pages.turn_links("[x](../jaxseg/config.py)", contents.DOCS / "data.md", docs / "data.md", docs)


def configuration(docs: Path) -> str:
    """Returns what Zensical reads: name, menu, looks. Fonts are the reader's own, so nothing is fetched."""
    version = re.search(r'^version = "(.*)"$', (contents.ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    menu = contents.menu(docs)
    if others := contents.others(docs):
        menu.append({"More": others})
    return f"""[project]
site_name = "jaxseg {version}"
site_description = "Semantic segmentation for JAX"
copyright = "Apache-2.0"
use_directory_urls = false
extra_css = ["site.css"]
nav = {_toml(menu)}

[project.theme]
font = false
features = ["navigation.tabs", "navigation.top", "navigation.footer", "navigation.indexes", "navigation.tracking",
  "content.code.copy", "search.highlight", "toc.follow"]

[project.theme.icon]
logo = "lucide/layers"

[[project.theme.palette]]
media = "(prefers-color-scheme)"
toggle.icon = "lucide/sun-moon"
toggle.name = "Light"

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "As the system"
"""


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    """Builds the site and says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m docs.make", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=contents.ROOT / "site", help="folder of the site (default: site/)")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        found = build(out, Path(folder))
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print(f"{len(list(out.rglob('*.html')))} pages: {out / 'index.html'}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
