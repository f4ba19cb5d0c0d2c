"""What is in the site, in which order: the table that its menu is made from."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"

# Title -> a page, relative to docs/; a dict of these; or a folder of docs/, which all its pages stand for.
Contents = dict[str, "str | Contents"]
CONTENTS: Contents = {
    "Start": {
        "jaxseg": "index.md",
        "Coming from smp, Lightning, torchvision, mmseg, MONAI, Keras": "coming.md",
        "Frequent questions": "faq.md",
        "Words": "words.md",
    },
    "Applications": {
        "Applications": "applications.md",
        "Driving": "driving.md",
        "Aerial: 200 bands": "bands.md",
        "Aerial: clouds": "clouds.md",
        "Aerial: scenes of one's own": "aerial.md",
        "Printed pages": "ocr.md",
        "Medical images": "medical.md",
        "Notebooks": "notebooks/",
    },
    "Course": "course/",
    "Models": {
        "Models": "models.md",
        "Pictures of the models": "architectures.md",
        "Encoders": "encoders.md",
        "Pretrained weights": "pretrained.md",
        "NNX, Equinox, plain JAX": "nnx.md",
        "League": "league.md",
        "The papers' configs": "papers.md",
    },
    "Train": {
        "Data": "data.md",
        "Losses": "losses.md",
        "Training in code of your own": "training.md",
        "Every setting": "files/jaxseg/config.py.md",
        "Many devices and machines": "scale.md",
        "Reliability": "reliability.md",
    },
    "Evaluate": {
        "Metrics": "metrics.md",
        "Calibration": "calibration.md",
        "Refinement": "refinement.md",
        "Analysis": "analysis.md",
    },
    "Deploy": {
        "Large images": "large.md",
        "Bundles": "bundles.md",
        "Export": "export.md",
        "Serve": "serve.md",
        "Files from others": "trust.md",
    },
    "Numbers": {
        "Speed": "performance.md",
        "Benchmark": "bench.md",
        "Measured on GPUs": "gpu/",
        "Parity with PyTorch": "parity.md",
    },
    "Reference": {
        "API": "api/",
        "Errors": "errors.md",
        "Every error message": "messages.md",
    },
    "About": {
        "Decisions": "decisions.md",
        "Contributing": "contributing.md",
        "First issues": "first_issues.md",
        "Changelog": "changelog.md",
        "Security": "security.md",
    },
}
INDEX = ("index", "README")  # pages that stand for their folder
# Pages of the site that lie outside docs/ in the repository.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def menu(source: Path, contents: Contents = CONTENTS) -> list[dict[str, object]]:
    """Returns the menu as Zensical's `nav`.

    Args:
      source: the folder that holds all pages; folders that the contents name may be absent or empty, and are left out.
      contents: titles and pages.
    """
    entries: list[dict[str, object]] = []
    for title, page in contents.items():
        if isinstance(page, dict):
            entries.append({title: menu(source, page)})
        elif page.endswith("/"):
            if pages := _folder(source / page, source):
                entries.append({title: pages})
        else:
            entries.append({title: page})
    return entries


def others(source: Path) -> list[dict[str, object]]:
    """Returns the entries of pages right in the folder of all pages that the contents do not name."""
    known = set(_named(CONTENTS))
    return [{title(path): path.name} for path in sorted(source.glob("*.md")) if path.name not in known]


def _named(contents: Contents) -> Iterator[str]:
    for page in contents.values():
        yield from _named(page) if isinstance(page, dict) else [page]


def _folder(folder: Path, source: Path) -> list[dict[str, object]]:
    """The pages of a folder, index or README first, each under its own first heading; then the folders in it."""
    pages = sorted(folder.glob("*.md"), key=lambda path: (path.stem not in INDEX, path.name))
    entries: list[dict[str, object]] = [{title(path): str(path.relative_to(source))} for path in pages]
    for inner in sorted(path for path in folder.glob("*") if path.is_dir()):
        if inside := _folder(inner, source):
            entries.append({next(iter(inside[0])): inside})
    return entries


def title(page: Path) -> str:
    """Returns the first heading of a page, without its markup."""
    heading = re.search(r"^# +(.+?)( *\{.*\})?$", page.read_text(), re.MULTILINE)
    return re.sub(r"[`*]", "", heading[1]) if heading else page.stem
