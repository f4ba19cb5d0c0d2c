"""The code of the documentation that claims to run does."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def code_blocks(page):
    """The Python blocks of a page, each at the line that it has there, so that a traceback points at it."""
    text = (DOCS / page).read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text[: match.start(1)].count("\n") + match.group(1)


@pytest.mark.parametrize("page", ["nnx.md", "training.md"])
def test_a_page_runs_from_top_to_bottom(page):
    names, blocks = {"__name__": "example"}, list(code_blocks(page))
    assert blocks
    for block in blocks:
        exec(compile(block, str(DOCS / page), "exec"), names)
