"""A page in both formats: escaped, complete, and without anything to load."""

import doctest

from data_prep import page as module
from data_prep.page import LONG_TABLE, Contents, Figure, Folded, Heading, Numbers, Page, Table, Text
from data_prep.page_gallery import Gallery, Tile


def test_a_long_table_is_folded_in_html_and_cut_in_markdown():
    rows = [[f"class {number}", "1"] for number in range(LONG_TABLE + 5)]
    page = Page(
        "Title", [Heading("H"), Text("t", warning=True), Numbers([("a", "1", "n")]), Table(("class", "n"), rows)]
    )
    assert "<details>" in page.html()
    folded = Page("T", [Folded("all classes", [Table(("class", "n"), rows)])]).html()
    assert "show all" not in folded, "one fold is enough"
    assert f"class {LONG_TABLE + 4}" in page.html()
    assert f"class {LONG_TABLE + 4}" not in page.markdown()
    assert "5 more rows" in page.markdown()


def test_cells_cannot_break_a_markdown_table():
    text = Page("T", [Table(("a", "b"), [["x | y", "line\nend"]])]).markdown()
    assert r"| x \| y | line end |" in text


def test_all_text_is_escaped_and_only_figures_are_put_in_as_they_are():
    text = "<script>alert('1')</script> & \"x\""
    blocks = [Contents(), Heading(text), Text(text), Numbers([(text, text, text)]), Table((text,), [[text]])]
    page = Page(
        text, [*blocks, Gallery([Tile(b"\x89PNG", text, [(text, text)])], text), Figure("<svg><g/></svg>", text)]
    ).html()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") == 16
    assert "<svg><g/></svg>" in page
    assert 'src="data:image/jpeg;base64,iVBORw=="' in page


def test_the_contents_link_to_every_heading():
    page = Page("T", [Contents(), Heading("Table 1: all")]).html()
    assert '<a href="#table-1-all">Table 1: all</a>' in page
    assert '<h2 id="table-1-all">Table 1: all</h2>' in page


def test_no_line_begins_with_a_per_cent_sign():
    assert "84.4\u00a0%" in Page("T", [Text("84.4 %")]).html()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).failed == 0
