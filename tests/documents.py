"""The code and the commands of the documentation, and the files that they name, tiny."""

import ast
import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator, KeysView, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jaxseg import checks
from jaxseg.models import create_model, init
from jaxseg.pretrained import save_bundle
from tests.pretrained.test_convert import torch_state_dict
from tests.pretrained.test_smp import CONFIG, smp_state_dict

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
WORKDIR = Path(__file__).parent / "data_before" / "workdir.tar.xz"  # of a run of two steps on two images
MODELS = {  # folders that must hold another model than the run's
    "runs/fpn": ("fpn", 5, {"pyramid_features": 8, "features": 32}),
    "runs/camvid_pan": ("unet", 2, {"decoder_channels": (4, 4), "attention": "scse"}),
}


class Block(NamedTuple):
    """A fenced or indented block of a page.

    Args:
      page: relative to the repository's root.
      line: of its first line of text, from 1.
      language: "python", "sh", ...; "" for a fence without a name and for an indented block.
      text: without the fence and the indentation.
    """

    page: str
    line: int
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Returns the blocks of a page, from top to bottom."""
    text, found = (ROOT / page).read_text(), []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$|^\n((?: {4}\S[^\n]*\n)+)(?=\n)", text, re.MULTILINE | re.DOTALL):
        group = 2 if match[3] is None else 3
        line = text.count("\n", 0, match.start(group)) + 1
        found.append(
            Block(page, line, match[1] or "", re.sub("^ {4}", "", match[3], flags=re.M) if match[3] else match[2])
        )
    return found


def run(block: Block, names: dict[str, Any]) -> None:
    """Runs a Python block, statement by statement; what its comments say of a statement's value or error must hold.

    `# (2, 3), float32` behind an expression is its value, and words behind `.keys()` are the keys; `# UserError: ...`
    below a statement is the error that it raises, whose text may end in "...".
    """
    source = "\n" * (block.line - 1) + block.text
    lines, statements = source.splitlines(), ast.parse(source).body
    ends = [statement.lineno - 1 for statement in statements[1:]] + [len(lines)]
    for statement, end in zip(statements, ends, strict=True):
        below = "\n".join(lines[statement.end_lineno : end])
        error = re.search(r"^# UserError: (.*?)(\.\.\.)?$", below, re.MULTILINE)
        if error:
            with pytest.raises(checks.UserError) as raised:
                exec(_compiled(statement, block.page), names)
            said = str(raised.value)
            assert said.startswith(error[1]) if error[2] else said == error[1], said
        elif isinstance(statement, ast.Expr):
            value = eval(_compiled(statement, block.page), names)
            comment = lines[statement.end_lineno - 1].partition("  # ")[2]
            if isinstance(value, KeysView):
                assert sorted(comment.split(", ")) == sorted(value), f"{block.page}:{statement.lineno}"
            elif re.match(r"\(\d", comment):
                assert comment in (str(value), ", ".join(map(str, value))), f"{block.page}:{statement.lineno}"
        else:
            exec(_compiled(statement, block.page), names)


def _compiled(statement: ast.stmt, page: str) -> CodeType:
    if isinstance(statement, ast.Expr):
        return compile(ast.Expression(statement.value), str(ROOT / page), "eval")
    return compile(ast.Module([statement], []), str(ROOT / page), "exec")


class Command(NamedTuple):
    """A command of a page, as a shell would split it."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def commands(page: str) -> Iterator[Command]:
    """Yields the commands of the blocks of a page: those named `sh`, and those without a name that begin with one."""
    for block in blocks(page):
        if block.language == "sh" or (not block.language and block.text.startswith(("jaxseg ", "python ", "pip "))):
            yield from split(block.text, page, block.line)


def split(text: str, page: str, line: int) -> Iterator[Command]:
    """Yields the commands of a script; they may go on over lines, and be joined by &&."""
    for row in re.finditer(r"(?:.*\\\n)*.*\n?", text):
        words = shlex.split(row[0].replace("\\\n", " "), comments=True)
        at = line + text.count("\n", 0, row.start())
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield Command(page, at, tuple(words[:end]))
            words = words[end + 1 :]


def inline(page: str) -> list[str]:
    """Returns the commands of jaxseg that the sentences of a page name, in backticks."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`(jaxseg [^`]*)`", prose)


def lay_out(folder: Path, text: str) -> None:
    """Makes the files that a page's code or command names: runs/, bundles/, photos/, DIR, state dicts.

    Args:
      folder: to make them in.
      text: of the code, or of the commands.
    """
    for name in sorted(set(re.findall(r"(?:runs|bundles)/\w+", text))):
        if name == "runs/smp_model":
            _write_smp(folder / name)
        elif name in MODELS:
            _write_bundle(folder / name, *MODELS[name])
        elif name.startswith("bundles/"):
            shutil.copytree(ROOT / "tests" / "data_before" / "bundle", folder / name)
        else:
            _unpack_run(folder / name)
    if "photos" in text:
        random = np.random.default_rng(0)
        (folder / "photos").mkdir()
        for name in ("a.png", "b.jpg"):
            Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / "photos" / name)
    if "scene.tif" in text:
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "scene.tif")
    if "resnet50.safetensors" in text:
        save_file(torch_state_dict("resnet50"), folder / "resnet50.safetensors")
    for root in {"DIR", "CAMVID"} & set(re.split(r"[\s=]", text)):
        for split_name, kind in ((s, k) for s in ("train", "val") for k in ("images", "labels")):
            (folder / root / split_name / kind).mkdir(parents=True)
            size = (32, 32, 3) if kind == "images" else (32, 32)
            array = np.random.default_rng(0).integers(0, 2 if kind == "labels" else 255, size, np.uint8)
            Image.fromarray(array).save(folder / root / split_name / kind / "a.png")
        (folder / root / "classes.json").write_text('{"classes": ["road", "car"]}')


def _unpack_run(path: Path) -> None:
    with tarfile.open(WORKDIR) as archive:
        archive.extractall(path.parent, filter="data")
    (path.parent / "workdir").rename(path)


def _write_bundle(path: Path, name: str, levels: int, options: Mapping[str, Any]) -> None:
    model = create_model(name, "plain", num_classes=7, encoder_options={"widths": (4,) * levels, "convs": 1}, **options)
    save_bundle(path, model, init(model, jax.random.key(0)))


def _write_smp(path: Path) -> None:
    """What smp's `save_pretrained` leaves."""
    path.mkdir(parents=True)
    save_file(smp_state_dict(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
