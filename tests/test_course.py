"""The course: its lessons run, their checks tell a solution from none, and their pages are of today's lessons."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COURSE = ROOT / "docs" / "course"


def _build():
    spec = importlib.util.spec_from_file_location("course_build", COURSE / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = _build()
# The lectures' own words, which the Vietnamese prose uses.
TERMS = {
    "02_fcn_unet": [
        "tích chập hoàn toàn",
        "phóng to",
        "kết nối tắt",
        "Receptive Field",
        "flatten",
        "phân vùng ngữ nghĩa",
    ],
    "03_pspnet": ["Pyramid Pooling Module", "PPM", "Receptive Field", "đặc trưng ngữ cảnh", "đặc trưng cục bộ"],
    "04_deeplab_crf": [
        "Atrous Convolution",
        "Dilated Convolution",
        "thêm các số 0",
        "rate",
        "Multi Grid",
        "nội suy",
        "làm mịn kết quả phân vùng",
        "Conditional Random Field",
    ],
    "05_fpn": [
        "Bottom-Up Path",
        "Top-Down Path",
        "Lateral Connection",
        "Object Detection",
        "sử dụng 2 lần FPN",
        "nhược điểm",
    ],
    "06_pan": ["cơ chế Attention", "ma trận trọng số", "layer sâu hơn", "layer nông hơn", "Global Pooling", "chú ý"],
    "hust6_segmentation": [
        "trượt cửa sổ",
        "phân lớp điểm ảnh trung tâm",
        "độ phân giải",
        "không có tham số",
        "ghi nhớ",
        "tích chập chuyển vị",
        "bước nhảy stride",
        "hàm mục tiêu",
        "mất cân bằng",
        "lớp nền",
        "kết nối tắt",
    ],
}

# Words that the lectures have others for -> theirs. Where "lớp" could be a class as well, a layer is "layer".
OTHERS = {
    "đặc trưng toàn cục": "đặc trưng ngữ cảnh",
    "tích chập giãn": "Dilated Convolution",
    "tích chập tách được": "separable convolution",
    "lớp sâu": "layer sâu",
    "lớp nông": "layer nông",
    "kim tự tháp": "Pyramid",
    "bản đồ đặc trưng": "feature map",
    "hàm mất mát": "hàm mục tiêu",
    "giải chập": "tích chập chuyển vị",
}


@pytest.mark.parametrize("name", build.LESSONS)
def test_a_lesson_runs_and_its_checks_want_the_solutions(name, monkeypatch):
    monkeypatch.setenv("COURSE_STEPS", "2")
    cells, names, trained = [cell for cell in build.lesson(name) if not cell.markdown], {"__name__": "lesson"}, ""
    for cell in cells:
        output = build.execute(cell, names)
        trained += output.text * ("trained for 2 steps" in output.text)
        assert len(output.pictures) == ("figure" in cell.options), cell.text
    assert "nan" not in trained, trained
    assert trained, "no cell trained"
    exercises = [i for i, cell in enumerate(cells) if cell.tagged("exercise")]
    assert exercises
    for i in exercises:
        exercise, solution, check = cells[i : i + 3]
        assert solution.tagged("solution") and check.tagged("check")
        build.execute(exercise, names)
        with pytest.raises(AssertionError):
            build.execute(check, names)


@pytest.mark.parametrize("language", build.LANGUAGES)
@pytest.mark.parametrize("name", build.LESSONS)
def test_a_page_is_what_its_lesson_makes(name, language):
    written = build.page_path(name, language).read_text(encoding="utf-8")
    assert written == build.page(name, language), "run `python docs/course/build.py pages`"
    assert not [row["text"] for row in build.kept(name)["cells"] if re.search(r"\bnan\b", row["text"])]
    assert "trained for" in written, "the outputs that are kept are those of a training"


def test_outputs_of_other_code_are_refused(monkeypatch):
    name, cells = build.LESSONS[0], build.lesson(build.LESSONS[0])
    code = next(i for i, cell in enumerate(cells) if not cell.markdown)
    cells[code] = cells[code]._replace(text=cells[code].text + "\nprint(1)")
    monkeypatch.setattr(build, "lesson", lambda name: cells)
    with pytest.raises(ValueError, match=r"02_fcn_unet.py has changed since it was run. Run it again: python docs/"):
        build.page(name, "en")


@pytest.mark.parametrize("name", build.LESSONS)
def test_both_languages_say_the_same_things(name):
    """As many texts in the same places, with the same headings, lists, tables, links and formulas."""
    prose = [cell for cell in build.lesson(name) if cell.markdown]
    assert {cell.options["lang"] for cell in prose} == {"en", "vi"}
    for english, vietnamese in zip(prose[::2], prose[1::2], strict=True):
        assert (english.options["lang"], vietnamese.options["lang"]) == ("en", "vi"), english.text
        for kind in (r"^#+ ", r"^- ", r"^\|", r"\]\(([^)]*)\)", r"^    .*$", r"`[^`]+`"):
            found = [sorted(re.findall(kind, cell.text, re.MULTILINE)) for cell in (english, vietnamese)]
            assert found[0] == found[1], english.text
    for cell in build.lesson(name):
        assert ("figure" in cell.options) == ("en" in cell.options) == ("vi" in cell.options), cell.options


@pytest.mark.parametrize("name", build.LESSONS)
def test_the_vietnamese_text_has_the_terms_of_the_lecture(name):
    text = "\n".join(cell.text for cell in build.lesson(name) if cell.options.get("lang") == "vi").lower()
    missing = [term for term in TERMS[name] if term.lower() not in " ".join(text.split())]
    assert not missing


@pytest.mark.parametrize("name", [*build.LESSONS, "index"])
def test_the_vietnamese_text_has_no_other_words_for_them(name):
    page = build.page_path(name, "vi").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL).lower().split())
    assert {word: theirs for word, theirs in OTHERS.items() if word in text} == {}


def test_the_words_page_has_the_vietnamese_words_of_the_lessons():
    lessons = [build.page_path(name, "vi").read_text(encoding="utf-8") for name in build.LESSONS]
    text = " ".join("\n".join(lessons).lower().split())
    rows = re.findall(
        r"^\| (?!word |-)(.+) \|$", (ROOT / "docs" / "words.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 20
    for word, _, vietnamese, _ in (row.split(" | ") for row in rows):
        unknown = [term for term in re.split("[,;] ", vietnamese) if term != "–" and term.lower() not in text]
        assert not unknown, word


def test_a_lesson_runs_where_neither_linux_nor_git_is(monkeypatch):
    """On a Mac, from a downloaded archive: what the page says of the device and the commit."""

    def no(*args, **kwargs):
        raise FileNotFoundError

    def elsewhere(read):
        return lambda path, *args, **kwargs: (no if str(path).startswith("/proc") else read)(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", elsewhere(open))
    monkeypatch.setattr(Path, "read_text", elsewhere(Path.read_text))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(build.subprocess, "run", no)
    assert re.search(r"\w", build.device())
    assert build.commit() == "unknown"


PAGES = [build.page_path(name, language) for name in build.LESSONS for language in build.LANGUAGES]
PAGES += [COURSE / "index.md", COURSE / "vi" / "index.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(COURSE)))
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).resolve().is_file(), target
            assert not anchor or anchor in re.sub(r"[^\w\n -]", "", (page.parent / path).read_text()).lower().replace(
                " ", "-"
            ), target
    images = {path.name for path in (COURSE / "images").iterdir()}
    used = {Path(t).name for p in PAGES for t in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", p.read_text(encoding="utf-8"))}
    assert images == used, "pictures that no page shows"


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_a_notebook_leaves_the_solutions_to_the_reader(language, tmp_path):
    assert build.main(["notebooks", "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob(f"*.{language}.ipynb"))) == len(build.LESSONS)
    for name in build.LESSONS:
        cells = build.lesson(name)
        made, whole = (build.notebook(cells, language, solutions=solutions) for solutions in (False, True))
        tags = [tag for cell in made["cells"] for tag in cell["metadata"].get("tags", [])]
        assert "exercise" in tags and "check" in tags and "solution" not in tags
        assert len(whole["cells"]) - len(made["cells"]) == tags.count("exercise")
        texts = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "markdown"]
        prose = [cell.text for cell in cells if cell.markdown and cell.options["lang"] == language]
        assert texts == [build.notebook_text(text, language, tmp_path) for text in prose]


@pytest.mark.parametrize("language", build.LANGUAGES)
@pytest.mark.parametrize("folder", [ROOT / "made" / "notebooks", Path("/nowhere/notebooks")], ids=["inside", "outside"])
def test_links_of_a_notebook_hold_wherever_it_lies(folder, language):
    """Outside of the repository the notebooks beside it are linked to, and the repository's files are named."""
    linked, named, beside = 0, 0, {f"{name}.{language}.ipynb" for name in build.LESSONS}
    for name in build.LESSONS:
        for cell in build.notebook(build.lesson(name), language, folder=folder)["cells"]:
            text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            named += len(re.findall(r"\((?:docs|configs)/[\w/]+\.(?:md|py)\)", text))
            for link in re.findall(r"\]\(([^)]+)\)", text):
                if not link.startswith("https://") and link not in beside:
                    assert Path(os.path.normpath(folder / link)).is_file(), link
                    linked += 1
    assert (linked > 40, named > 40) == ((True, False) if ROOT in folder.parents else (False, True))
