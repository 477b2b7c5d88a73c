"""HTML that cannot be broken by a name: text is escaped on its way in, and markup is a type of its own."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NewType

Markup = NewType("Markup", str)

ARM_COLORS = 8  # that the style sheet names
EMPTY = frozenset({"img"})  # elements that have no end tag


def text(value: object) -> Markup:
    """Return a value as markup that shows it letter by letter."""
    return Markup(html.escape(str(value)))


def element(tag: str, *children: Markup, **attributes: str) -> Markup:
    """Return an element; attribute values are escaped. ``class_`` becomes ``class``, ``aria_label`` ``aria-label``."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    listed = "".join(f' {name}="{html.escape(value)}"' for name, value in named.items())
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


def swatch(number: int, name: str) -> Markup:
    """Return the name of a run behind its color; it may break after an underscore, like words do."""
    breakable = element("span", Markup(text(name).replace("_", "_<wbr>")))
    return element("span", element("i", class_=f"swatch arm-{number % ARM_COLORS}"), breakable, class_="arm")
