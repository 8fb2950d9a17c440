"""Articles as text: MediaWiki's markup removed, disambiguation pages and redirects recognised, long texts cut.

This is no parser of all of MediaWiki: templates are left out except a few whose words matter (convert, lang, nowrap),
and so are tables, files, references and the sections after the article itself (References, External links, ...).
"""

import html
import re
from collections.abc import Callable

DEEPEST = 40  # nested templates, tables or links that are resolved
_REDIRECT = re.compile(r"\s*#\s*redirect(?:ion)?\s*:?\s*\[\[\s*:?([^\]|#]+)", re.IGNORECASE)
_AMBIGUOUS = re.compile(
    r"\{\{\s*(?:disambig(?:uation)?|disamb|dab|hndis|geodis|numberdis|mountainindex|shipindex|setindex|sia)\b"
    r"[^{}]*\}\}",
    re.IGNORECASE,
)
_MAY_REFER = re.compile(r"^[^\n.]{0,200}\b(?:refers? to|stands? for|mean)\b[^\n.]{0,80}:[ \t]*$", re.MULTILINE)
_LEFT_OUT = re.compile(
    r"<!--.*?-->|<ref\b[^<>]*/>|<(ref|math|gallery|timeline|table|syntaxhighlight|score|imagemap)\b[^<>]*>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_NO_TEXT = re.compile(r"\s*(?:file|image|category|media)\s*:", re.IGNORECASE)
_HEADING = re.compile(r"^(=+)[ \t]*(.+?)[ \t]*\1[ \t]*$", re.MULTILINE)
_AFTER = frozenset({
    "see also", "references", "external links", "further reading", "notes", "footnotes", "bibliography", "sources",
    "citations", "gallery", "notes and references", "references and notes", "works cited",
})  # fmt: skip
"""Sections that are no part of the article's text."""


def redirect_target(text: str) -> str | None:
    """The title that a page redirects to; None for a page with a text of its own.

    >>> redirect_target("#REDIRECT [[Guinea pig#Breeds]]")
    'Guinea pig'
    """
    found = _REDIRECT.match(text)
    return found[1].strip() if found else None


def is_disambiguation(title: str, text: str) -> bool:
    r"""Whether a page lists the meanings of its title: by a template, or a first line that ends in "may refer to:".

    >>> is_disambiguation("Crane", "Crane or cranes may refer to:\n\nA bird")
    True
    """
    if title.lower().endswith("(disambiguation)") or _AMBIGUOUS.search(text):
        return True
    begin = "\n".join([line for line in text.splitlines() if line.strip()][:3])
    return _MAY_REFER.search(begin.replace("'''", "").replace("''", "")) is not None


def plain_text(wikitext: str) -> str:
    """The text of an article without markup; headings stay as lines of their own."""
    text = _LEFT_OUT.sub("", wikitext)
    text = _without_nested(_TEMPLATE, _template_words, text)
    text = _without_nested(_TABLE, lambda _: "", text)
    text = _without_nested(_LINK, _link_words, text)
    text = re.sub(r"\[(?:https?:)?//[^\s\]]*[ \t]*([^\]\n]*)\]", r"\1", text)
    text = _until_appendix(text)
    text = _HEADING.sub(r"\2", text)
    text = re.sub(r"'{2,5}|__[A-Z]+__", "", text)
    text = html.unescape(re.sub(r"</?[a-zA-Z][^<>]*>", "", text)).replace("\xa0", " ")
    lines = (" ".join(line.lstrip("*#:; \t").split()) for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters of a text, cut after a paragraph or a sentence where that keeps half of them."""
    if len(text) <= limit:
        return text
    for end in ("\n\n", ".\n", ". "):
        position = text.rfind(end, limit // 2, limit + 1)
        if position >= 0:
            return text[: position + (end[0] == ".")].rstrip()
    return text[:limit].rstrip()


def _without_nested(pattern: re.Pattern[str], words: Callable[[re.Match[str]], str], text: str) -> str:
    """`text` with matches replaced from the innermost outwards."""
    for _ in range(DEEPEST):
        replaced = pattern.sub(words, text)
        if replaced == text:
            break
        text = replaced
    return text


def _template_words(template: re.Match[str]) -> str:
    """What a template shows, for those whose words are part of a sentence."""
    name, *values = (part.strip() for part in template[1].split("|"))
    plain = [value for value in values if "=" not in value]
    if name.lower() in ("convert", "cvt") and len(plain) >= 2:
        ranged = len(plain) >= 4 and plain[1] in ("to", "-", "–", "and", "or", "by", "x")
        return f"{plain[0]} {plain[1]} {plain[2]} {plain[3]}" if ranged else f"{plain[0]} {plain[1]}"
    if name.lower() in ("lang", "transliteration", "nowrap", "nobr", "small", "em", "abbr", "circa", "c.") and plain:
        return plain[0] if name.lower() == "abbr" else plain[-1]
    return ""


def _link_words(link: re.Match[str]) -> str:
    if _NO_TEXT.match(link[1]):
        return ""
    return link[1].split("|")[-1].strip().removeprefix(":")


def _until_appendix(text: str) -> str:
    """The text up to the first section such as References; sections after it are appendices, too."""
    for heading in _HEADING.finditer(text):
        if heading[2].strip().lower() in _AFTER:
            return text[: heading.start()]
    return text
