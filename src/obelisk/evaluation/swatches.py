"""The color that stands for a run on the page of a report."""

from __future__ import annotations

from obelisk.markup import Markup, element, text

ARM_COLORS = 8  # that the style sheet names


def swatch(number: int, name: str) -> Markup:
    """Return the name of a run behind its color; it may break after an underscore, like words do."""
    breakable = element("span", Markup(text(name).replace("_", "_<wbr>")))
    return element("span", element("i", class_=f"swatch arm-{number % ARM_COLORS}"), breakable, class_="arm")
