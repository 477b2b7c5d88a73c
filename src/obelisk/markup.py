"""Text that cannot break what shows it: HTML whose names are escaped on their way in, and lines of a terminal.

Markup is a type of its own. A page needs nothing else: no network, no script, and a policy that forbids both.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from importlib import resources
from typing import NewType
from urllib.parse import urlsplit

Markup = NewType("Markup", str)

LONGEST_NAME = 120  # letters that small places show
EMPTY = frozenset({"img"})  # elements that have no end tag

# Control characters, line separators, direction marks and overrides, escaped as in JSON, so that JSON stays the same.
CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
ESCAPES = {code: f"\\u{code:04x}" for code in CONTROLS}


def visible(text: str) -> str:
    """Escape what would control the terminal or turn the text around it: names and paths may contain anything."""
    return text if text.isprintable() else text.translate(ESCAPES)


def escape_surrogates(text: str) -> str:
    """Escape what UTF-8 cannot encode: the bytes of a path that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text(value: object) -> Markup:
    """Return a value as markup that shows it letter by letter; what is no character of UTF-8 is escaped."""
    return Markup(html.escape(escape_surrogates(visible(str(value)))))


def clip_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name, cut if it is longer than so many letters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def is_web_address(link: str) -> bool:
    """Return whether a text may be an http or https URL: galleries of strangers may hold any text."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def element(tag: str, *children: Markup, **attributes: str) -> Markup:
    """Return an element; attribute values are escaped. ``class_`` becomes ``class``, ``aria_label`` ``aria-label``."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    listed = "".join(f' {name}="{text(value)}"' for name, value in named.items())
    end = "" if tag in EMPTY else f"{''.join(children)}</{tag}>"
    return Markup(f"<{tag}{listed}>{end}")


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """Return parts one after the other, with plain text between them."""
    return Markup(html.escape(between).join(parts))


def html_table(head: Iterable[Markup], rows: Iterable[Iterable[Markup]]) -> Markup:
    """Return a table whose first column names the rows; it scrolls by itself on a narrow screen."""
    header = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = []
    for first, *cells in rows:
        row = [element("th", first, scope="row"), *(element("td", cell) for cell in cells)]
        body.append(element("tr", *row))
    drawn = element("table", element("thead", header), element("tbody", *body))
    return element("div", drawn, class_="scroll", tabindex="0")


def page_head(title: str, style: str) -> Markup:
    """Return a page up to its body: in the colors of all pages, followed by ``style``.

    The browser is told to load nothing: no script runs, only the pictures inside the page are shown, and attributes
    called ``style`` don't work.
    """
    sheet = f"\n{resources.files('obelisk').joinpath('page.css').read_text(encoding='utf-8')}{style}"
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">\n<style>{sheet}</style>\n</head>\n'
    )
