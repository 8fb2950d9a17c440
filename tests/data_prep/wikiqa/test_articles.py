"""Articles from folders and dumps: what is found, and why a class has none, by name."""

import bz2
import gzip
import json

import pytest

from configs.errors import DataError
from configs.wikiqa import ArticlesConfig
from data_prep.class_names import ClassList
from data_prep.wikiqa.article_stage import article_stage, texts_of
from data_prep.wikiqa.articles import articles_of_dump, articles_of_folder, read_titles
from data_prep.wikiqa.classes import wiki_classes
from data_prep.wikiqa.dump import form_of
from data_prep.wikiqa.wikitext import is_disambiguation, plain_text, shortened

NAMES = ("tench", "crane", "crane", "guinea pig", "jack-o'-lantern", "drake", "pirate, pirate ship", "mosaïque", "void")
KEYS = tuple(f"n{number:08d}" for number in range(len(NAMES)))
CLASSES = wiki_classes(ClassList(NAMES, KEYS, (*((name,) for name in NAMES[:-1]), ("void", "emptiness"))))
ID = dict(zip(("tench", "bird", "machine", "pig", "lantern", "drake", "pirate", "mosaic", "void"), KEYS, strict=True))
WIKITEXT = """{{Short description|fish}}{{Taxobox
| name = {{lang|la|Tinca}} }}
[[File:Tench.jpg|thumb|A [[tench]] in [[Germany]]]]
The '''tench''' (''Tinca tinca'') is a [[Freshwater fish|fish]] of {{cvt|70|cm}} length.<ref name="a">{{cite}}</ref>
== Ecology == <!-- no -->
* It lives in [[lake]]s &amp; rivers.[https://example.org A page] <ref name="b" />
{| class="wikitable"
| a || b
|}
== References ==
{{reflist}}
"""
PAGES = (
    ("Tench", WIKITEXT, None, 0),
    ("Talk:Tench", "Talk.", None, 1),
    ("Crane", "'''Crane''' may refer to:\n* [[Crane (bird)]]\n{{disambiguation|animals}}", None, 0),
    ("Crane (bird)", "A tall bird.", None, 0),
    ("Crane (machine)", "A machine.", None, 0),
    ("Guinea pig", "#REDIRECT [[Cavy]]", "Cavy", 0),
    ("Cavy", "A rodent of Peru.", None, 0),
    ("Jack-O'-Lantern", "A carved pumpkin.", None, 0),
    ("Drake", "Drake may refer to:", None, 0),
    ("Pirate, pirate ship", "#redirect [[Ship of pirates]]", None, 0),
    ("Mosaïque", "Une œuvre.", None, 0),
    ("Emptiness", "Nothing is there.", None, 0),
)


def write_xml(path, pages=PAGES, opener=open):
    from xml.sax.saxutils import escape, quoteattr

    text = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n<siteinfo><sitename>W</sitename></siteinfo>\n'
    )
    for title, words, redirect, namespace in pages:
        target = f"<redirect title={quoteattr(redirect)} />" if redirect else ""
        text += f"<page><title>{escape(title)}</title><ns>{namespace}</ns>{target}<revision><text>{escape(words)}"
        text += "</text></revision></page>\n"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text + "</mediawiki>\n")
    return path


def write_json_lines(path, pages=PAGES):
    rows = [{"id": "1", "url": "u", "title": title, "text": text} for title, text, _, ns in pages if not ns]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


TITLES = {ID["bird"]: ("Crane (bird)",), ID["machine"]: ("Crane (machine)", "Crane (bird)")}


@pytest.mark.parametrize("opener", [open, gzip.open, bz2.open])
def test_an_xml_dump_gives_texts_without_markup_and_follows_redirects(tmp_path, opener):
    path = write_xml(tmp_path / "dump", opener=opener)
    assert form_of(path) == "xml"
    found = articles_of_dump(path, "xml", CLASSES, TITLES, 10_000)
    assert found[ID["tench"]].text == (
        "The tench (Tinca tinca) is a fish of 70 cm length.\nEcology\nIt lives in lakes & rivers.A page"
    )
    assert found[ID["machine"]].text == "A machine.\n\nA tall bird."
    assert found[ID["pig"]].text == "A rodent of Peru."
    assert found[ID["pig"]].redirects == ("Guinea pig → Cavy",)
    assert found[ID["lantern"]].sources == ("Jack-O'-Lantern",), "a title that differs in case alone"
    assert found[ID["mosaic"]].text == "Une œuvre."
    assert found[ID["void"]].sources == ("Emptiness",), "a synonym where the name has no page"
    assert found[ID["drake"]].missing == "disambiguation page"
    assert found[ID["pirate"]].missing == "redirect to a missing page"


def test_without_titles_a_name_of_two_classes_gets_no_article_of_either(tmp_path):
    found = articles_of_dump(write_xml(tmp_path / "dump.xml"), "xml", CLASSES, {}, 10_000)
    assert {found[ID["bird"]].missing, found[ID["machine"]].missing} == {"name of several classes"}


def test_a_folder_of_json_lines_is_read_as_wikiextractor_writes_it(tmp_path):
    write_json_lines(tmp_path / "out" / "AA" / "wiki_00", PAGES[:4])
    write_json_lines(tmp_path / "out" / "AB" / "wiki_00", PAGES[4:])
    assert form_of(tmp_path / "out") == "jsonl"
    found = articles_of_dump(tmp_path / "out", "jsonl", CLASSES, TITLES, 10_000)
    assert found[ID["bird"]].text == "A tall bird."
    assert found[ID["drake"]].missing == "disambiguation page"


def test_redirects_in_a_circle_end(tmp_path):
    pages = [("Tench", "#REDIRECT [[B]]", "B", 0), ("B", "#REDIRECT [[Tench]]", "Tench", 0)]
    found = articles_of_dump(write_xml(tmp_path / "dump.xml", pages), "xml", CLASSES[:1], {}, 100)
    assert found[ID["tench"]].missing == "redirect to a missing page"


def test_a_dump_that_ends_too_early_or_is_another_form_is_named(tmp_path):
    path = write_xml(tmp_path / "dump.xml")
    path.write_text(path.read_text()[:-200])
    with pytest.raises(DataError, match=r"damaged or ends too early after 1[01] pages"):
        articles_of_dump(path, "xml", CLASSES, {}, 100)
    lines = write_json_lines(tmp_path / "wiki_00")
    lines.write_text(lines.read_text() + '{"title": "x"\n')
    with pytest.raises(DataError, match="wiki_00, line 12 is no JSON object with title and text"):
        articles_of_dump(lines, "jsonl", CLASSES, {}, 100)
    (tmp_path / "other").write_text("<doc id='1'>")
    with pytest.raises(DataError, match="again with --json"):
        form_of(tmp_path / "other")


def test_files_of_a_folder_are_named_by_key_or_name_and_a_shared_name_is_no_ones(tmp_path):
    for name, text in {
        "n00000000_tench.txt": "A fish.", "crane.txt": "Which?", "n00000001.txt": "A bird.", ".DS_Store": "x",
        "jack-o'-lantern.txt": " \n", "drake.txt": "Drake may refer to:\n\nA bird", "unicorn.txt": "None.",
        "Guinea_pig.md": "A rodent.",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    (tmp_path / "pirate, pirate ship").mkdir()
    (tmp_path / "pirate, pirate ship" / "b.txt").write_text("Second.")
    (tmp_path / "pirate, pirate ship" / "a.txt").write_text("First.")
    found, unused = articles_of_folder(tmp_path, CLASSES, 10_000)
    assert {key: found[ID[key]].text for key in ("tench", "bird", "pig", "pirate")} == {
        "tench": "A fish.", "bird": "A bird.", "pig": "A rodent.", "pirate": "First.\n\nSecond.",
    }  # fmt: skip
    reasons = {key: found[ID[key]].missing for key in ("machine", "lantern", "drake", "void")}
    assert reasons == {
        "machine": "name of several classes", "lantern": "no text", "drake": "disambiguation page", "void": "no page",
    }  # fmt: skip
    assert unused == ["crane.txt", "unicorn.txt"]


def test_titles_of_a_name_that_two_classes_have_are_refused(tmp_path):
    file = tmp_path / "titles.json"
    file.write_text(json.dumps({"Guinea pig": "Cavy", KEYS[1]: ["Crane (bird)"]}))
    assert read_titles(file, CLASSES) == {ID["pig"]: ("Cavy",), ID["bird"]: ("Crane (bird)",)}
    for values, reason in (
        ({"crane": "x"}, "name of several classes"),
        ({"x": "y"}, "no class"),
        ({KEYS[0]: [1]}, "texts"),
    ):
        file.write_text(json.dumps(values))
        with pytest.raises(DataError, match=reason):
            read_titles(file, CLASSES)


def test_the_stage_counts_and_names_what_is_missing_and_is_made_again_for_other_files(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "tench.txt").write_text("A fish. " * 60)
    config, file = ArticlesConfig(path=str(folder), characters=200), tmp_path / "articles.jsonl"
    made = article_stage(config, CLASSES, file)
    assert made.counts == {
        "classes": 9, "with an article": 1, "without": 8, "cut to articles.characters": 1, "name of several classes": 2,
        "no page": 6,
    }  # fmt: skip
    assert made.named["cut to articles.characters"] == ["tench (n00000000)"]
    assert len(texts_of(made)[KEYS[0]]) == 199
    before = file.stat().st_mtime_ns
    assert texts_of(article_stage(config, CLASSES, file)) == texts_of(made)
    assert file.stat().st_mtime_ns == before
    (folder / "void.txt").write_text("Nothing.")
    assert article_stage(config, CLASSES, file).counts["with an article"] == 2


def test_no_article_at_all_is_an_error_with_the_reasons(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no article of any of the 9 classes: .*7 no page"):
        article_stage(ArticlesConfig(path=str(tmp_path / "empty")), CLASSES, tmp_path / "articles.jsonl")


def test_a_long_text_is_cut_after_a_paragraph_else_a_sentence():
    assert shortened("One two.\n\nThree four. Five", 15) == "One two."
    assert shortened("One two three. Four five", 20) == "One two three."
    assert shortened("x" * 30, 20) == "x" * 20
    assert shortened("short", 5) == "short"


def test_an_article_that_speaks_of_meanings_is_no_disambiguation_page():
    assert not is_disambiguation("Tench", "The tench is a fish. Its name may refer to its colour: green.\nIt swims.")
    assert is_disambiguation("Crane", "Crane or cranes may refer to:\n\n\nCommon meanings")
    assert is_disambiguation("Mercury (disambiguation)", "x")
    assert plain_text("{{a|{{b|{{c}}}}}}x{{unclosed") == "x{{unclosed"
