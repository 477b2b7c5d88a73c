"""Invented names and coordinates for made-up landmarks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

COLORS = "Amber Azure Copper Crimson Emerald Golden Grey Ivory Jade Old Pearl Red Rose Russet Silver White"
STARTS = "Al Bar Cal Dor El Fen Gal Hav Il Jor Kar Lun Mor Nav Or Pel Quar Ros Sel Tal Ur Vel Wes Yar Zam"
MIDDLES = "a e i o an ar en er im or ov un va vi"
ENDS = "ba dal dor field ford gard holm la lin mar mere na nia ra ro stad stein ta to ville"


def invent_names(seeds: Sequence[int], words: Sequence[str]) -> list[str]:
    """Invent names such as “Amber Castle of Ilvaro” from the words for each landmark; a second one gets a numeral."""
    names, seen = [], Counter[str]()
    for seed, kind in zip(seeds, words, strict=True):
        rng = random.Random(f"name {seed}")
        color, word, *syllables = (rng.choice(choice.split()) for choice in (COLORS, kind, STARTS, MIDDLES, ENDS))
        town = "".join(syllables)
        name = rng.choice((f"{color} {word} of {town}", f"{word} of {town}", f"{town} {word}"))
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def invent_coordinates(landmark_seed: int) -> tuple[float, float]:
    """Invent a latitude and a longitude, in degrees."""
    rng = random.Random(f"place {landmark_seed}")
    return round(rng.uniform(-55, 68), 4), round(rng.uniform(-180, 180), 4)
