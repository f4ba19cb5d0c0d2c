"""The site is built without a warning, its links lead somewhere, and nothing is fetched from elsewhere."""

import json
from importlib.util import find_spec

import pytest

from docs.make import check, contents, pages
from docs.make.__main__ import build, configuration


def test_links_of_the_repository_become_links_of_the_site(tmp_path):
    target = tmp_path / "data.md"
    text = "[a](models.md#initial-values) [b](../README.md) [c](../jaxseg/checks.py) [d](https://x.org) `[e](f.md)`"
    turned = pages.turn_links(text, contents.DOCS / "data.md", target, tmp_path)
    assert turned == (
        "[a](models.md#initial-values) [b](index.md) [c](files/jaxseg/checks.py.md) [d](https://x.org) `[e](f.md)`"
    )
    shown = (tmp_path / "files/jaxseg/checks.py.md").read_text()
    assert "class UserError(ValueError)" in shown
    with pytest.raises(SystemExit, match=r"docs/data.md: there is no nowhere.md"):
        pages.turn_links("[a](nowhere.md)", contents.DOCS / "data.md", target, tmp_path)


def test_links_that_lead_nowhere_and_what_is_fetched_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#there">2</a><a href="c.html">3</a><a href="https://x.org">4</a>'
        '<script src="https://cdn.org/x.js"></script><img src="gone.png">'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    assert check.problems(tmp_path) == [
        "a.html fetches https://cdn.org/x.js",
        "a.html links to b.html#there, and there is no such place in that page",
        "a.html links to c.html, which is not there",
        "a.html links to gone.png, which is not there",
    ]


def test_pages_of_a_folder_are_in_the_menu_by_themselves(tmp_path):
    (tmp_path / "course" / "vi").mkdir(parents=True)
    (tmp_path / "course" / "index.md").write_text("# The `course`\n")
    (tmp_path / "course" / "02_unet.md").write_text("# U-Net {#unet}\n")
    (tmp_path / "course" / "vi" / "02_unet.md").write_text("# Mạng U-Net\n")
    (tmp_path / "course" / "vi" / "index.md").write_text("# Khóa học\n")
    (entry,) = [entry for entry in contents.menu(tmp_path) if "Course" in entry]
    assert entry["Course"] == [
        {"The course": "course/index.md"},
        {"U-Net": "course/02_unet.md"},
        {"Khóa học": [{"Khóa học": "course/vi/index.md"}, {"Mạng U-Net": "course/vi/02_unet.md"}]},
    ]
    assert '{"Mạng U-Net" = "course/vi/02_unet.md"}' in configuration(tmp_path)
    assert not [entry for entry in contents.menu(tmp_path / "course") if "Course" in entry]


def test_every_page_is_in_the_menu(tmp_path):
    for name, page in contents.OUTSIDE.items():
        assert (contents.ROOT / name).exists(), page
    for page in ("faq.md", "new.md"):
        (tmp_path / page).write_text(f"# About {page}\n")
    assert contents.others(tmp_path) == [{"About new.md": "new.md"}]
    assert '{"More" = [{"About new.md" = "new.md"}]}' in configuration(tmp_path)
    made = {"index.md", "messages.md", "contributing.md", "changelog.md", "security.md", "files/jaxseg/config.py.md"}
    named = {page for page in contents._named(contents.CONTENTS) if not page.endswith("/")}
    assert [page for page in sorted(named - made) if not (contents.DOCS / page).exists()] == []


if find_spec("zensical"):  # the extra `docs`, a part of `test`

    def test_the_site_is_built_without_a_warning(tmp_path):
        assert build(tmp_path / "site", tmp_path / "source") == []
        searched = json.loads((tmp_path / "site" / "search.json").read_text())
        assert "Soft Dice loss" in json.dumps(searched)
        assert "Pass class ids, not one-hot vectors" in json.dumps(searched), "error messages are found by a search"
        for page in ("index", "models", "api/jaxseg.losses", "files/jaxseg/config.py"):
            assert (tmp_path / "site" / f"{page}.html").exists()
