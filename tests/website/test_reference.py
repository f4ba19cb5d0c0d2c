"""The reference has every public name, the page of errors every message, the tables of names only what exists."""

import ast
import inspect
import re

import jax
import pytest

import jaxseg
from docs.make import messages, reference
from docs.make.contents import DOCS
from jaxseg.cli.program import make_parser
from jaxseg.config import default_config
from jaxseg.models import create_model
from tests.test_signatures import FUNCTIONS, MODULES

CLASSES = {
    f"{module.__name__}.{name}"
    for module in MODULES
    for name, thing in vars(module).items()
    if inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    if f"class {name}" in inspect.getsource(module)  # not one that a function made, such as a NamedTuple's
}
TABLES = {**jaxseg.LOSSES, **jaxseg.METRICS, **jaxseg.DATASETS, **jaxseg.ENCODERS, **jaxseg.MODELS}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    return folder, reference.write(folder)


def test_every_public_name_has_an_entry(api):
    folder, names = api
    public = {name for name, _ in FUNCTIONS} | CLASSES
    # Python does not see all: what a decorator made counts as its package's.
    assert public - set(names) == set()
    assert len(names) == len(set(names)), "two entries have one anchor"
    text = "\n".join(path.read_text() for path in folder.glob("*.md"))
    assert [name for name in names if f"{{#{name}}}" not in text] == []
    assert len(set(names) - public) <= len(names) // 100, sorted(set(names) - public)


def test_every_offered_name_leads_to_its_entry(api):
    folder, names = api
    for package in (jaxseg, *(thing for thing in map(jaxseg.__getattr__, jaxseg.__all__) if inspect.ismodule(thing))):
        page = folder / ("index.md" if package is jaxseg else f"{package.__name__}.md")
        for name in getattr(package, "__all__", ()):
            row = re.search(rf"^\| (?:\[`{name}`\]\((\S+?)\)|`{name}`) \| (.*) \|$", page.read_text(), re.MULTILINE)
            assert row, f"{page.name} does not offer {name}"
            assert len(row[2].split()) > 1, f"{page.name} says nothing of {name}"
            thing = getattr(package, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                assert row[1].partition("#")[2] in names, f"{package.__name__}.{name} leads to {row[1]}"


def test_docstrings_become_markdown():
    text = reference.prose(jaxseg.losses.dice.__doc__ and inspect.getdoc(jaxseg.losses.dice))
    assert "**Args**\n\n- `logits`:" in text
    assert reference.prose("a *b* <c>\n\n>>> 1\n1") == "a \\*b\\* \\<c>\n\n```pycon\n>>> 1\n1\n```"
    node = ast.parse("def f(a: int, *, b: str = 'x, y', c: tuple[int, ...] = ()) -> None: ...\n" * 1).body[0]
    assert reference.signature(node) == "f(a: int, *, b: str='x, y', c: tuple[int, ...]=()) -> None"


def test_every_message_is_on_the_page(tmp_path):
    count = messages.write(tmp_path / "messages.md")
    page = (tmp_path / "messages.md").read_text()
    source = "\n".join(path.read_text() for path in reference.modules().values())
    raised = len(re.findall(r"raise [\w.]*(?:UserError|Unreadable|TooLarge|Damaged|OutOfMemory)\(", source))
    assert raised - 15 <= count, "messages that are put together elsewhere are the only ones that may lack"
    with pytest.raises(jaxseg.UserError) as raised_here:
        jaxseg.losses.dice(jax.numpy.zeros((1, 2, 2, 3)), jax.numpy.zeros((1, 2, 2)))
    assert "Labels must be integers, got …. Pass class ids, not one-hot vectors." in page
    assert str(raised_here.value).startswith("Labels must be integers, got float32.")


def rows():
    """The right column of the tables of names, and the left one with the library that it is of."""
    library = None
    for line in (DOCS / "coming.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if len(cells) == 2 and cells[1] == "here":
            library = cells[0]
        elif len(cells) == 2:
            yield library, re.findall(r"`([^`]*)`", cells[0]), re.findall(r"`([^`]*)`", cells[1])


@pytest.mark.parametrize("name", sorted({name for _, _, names in rows() for name in names}))
def test_a_name_of_ours_in_the_tables_exists(name):
    if name.startswith("jaxseg "):
        assert make_parser(name.split()[1])
        return
    node = ast.parse(name, mode="eval").body
    options = {}
    if isinstance(node, ast.Call):
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        node = node.func
    path = ast.unparse(node).split(".")
    if path[0] == "config":
        thing = default_config()
        for key in path[1:]:
            thing = thing[key]
        return
    thing = jaxseg if path[0] == "jaxseg" else TABLES[path[0]]
    for key in path[1:]:
        thing = getattr(thing, key)
    if path[0] in jaxseg.MODELS and options:
        create_model(path[0], num_classes=2, **options)
    else:
        inspect.signature(thing).bind_partial(**options)
