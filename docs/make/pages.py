"""Copies what people wrote into the folder that the site is built from, and turns its links into the site's."""

import os
import re
import shutil
from pathlib import Path

from docs.make import notebooks
from docs.make.contents import DOCS, OUTSIDE, ROOT

LEFT_OUT = {"make", "__pycache__"}
ASSETS = {".png", ".svg", ".jpg", ".jsonl", ".yaml", ".sbatch", ".ipynb", ".css"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".sbatch": "sh"}


def lay_out(source: Path) -> None:
    """Writes every page that people wrote to `source`, and the files that they show or link to."""
    files = [path for path in DOCS.rglob("*") if path.is_file() and not LEFT_OUT & set(path.relative_to(DOCS).parts)]
    pages = {path: source / path.relative_to(DOCS) for path in files if path.suffix == ".md"}
    pages |= {ROOT / path: source / page for path, page in OUTSIDE.items()}
    for path in files:
        if path.suffix in ASSETS:
            target = source / path.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if path.suffix == ".ipynb":
            notebooks.write_page(path, target.parent)
    for path, target in pages.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(turn_links(path.read_text(), path, target, source))


def turn_links(text: str, path: Path, target: Path, source: Path) -> str:
    """Returns a page's text with the links that hold in the repository made to hold in the site.

    A file that is no page of the site, such as jaxseg/config.py, becomes one: a page that shows it.

    Args:
      text: of the page.
      path: the page in the repository.
      target: the page in the site's source.
      source: the folder of all pages.
    """

    def turn(match: re.Match[str]) -> str:
        link, _, anchor = match[2].partition("#")
        if not link or re.match(r"[a-z]+:", link):
            return match[0]
        file = (path.parent / link).resolve()
        if not file.exists():
            raise SystemExit(f"{path.relative_to(ROOT)}: there is no {link}")
        place = os.path.relpath(_place(file, source), target.parent)
        return f"{match[1]}{place}{'#' + anchor if anchor else ''}{match[3]}"

    parts = FENCE.split(text)  # every second part is code, which stays as it is
    joined = "".join(part if i % 2 == 0 else f"\0{i}\0" for i, part in enumerate(parts))
    return re.sub(r"\0(\d+)\0", lambda match: parts[int(match[1])], LINK.sub(turn, joined))


def _place(file: Path, source: Path) -> Path:
    """Where a file of the repository is in the site's source; it is put there where it is not a page."""
    name = str(file.relative_to(ROOT))
    if name in OUTSIDE:
        return source / OUTSIDE[name]
    if file.parent == notebooks.FOLDER:
        return source / file.relative_to(DOCS).with_suffix(".md")
    inside = file.is_relative_to(DOCS) and not LEFT_OUT & set(file.relative_to(DOCS).parts)
    if inside and file.suffix in {".md", *ASSETS}:
        return source / file.relative_to(DOCS)
    if file.is_dir():
        return _listing(file, source)
    shown = source / "files" / f"{name}.md"
    shown.parent.mkdir(parents=True, exist_ok=True)
    language = LANGUAGES.get(file.suffix, "text")
    shown.write_text(f"# `{name}`\n\n```` {language}\n{file.read_text()}````\n")
    return shown


def _listing(folder: Path, source: Path) -> Path:
    name = folder.relative_to(ROOT)
    shown = source / "files" / name / "index.md"
    shown.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in sorted(folder.glob("*.py")):
        place = os.path.relpath(_place(path, source), shown.parent)
        rows.append(f"- [`{path.name}`]({place})")
    shown.write_text("\n".join([f"# `{name}/`", "", *rows, ""]))
    return shown
