"""Invented names and coordinates for made-up landmarks."""

from __future__ import annotations

import random
from collections.abc import Sequence

COLORS = (
    *("Amber", "Azure", "Copper", "Crimson", "Emerald", "Golden", "Grey", "Ivory", "Jade", "Ochre", "Old", "Pearl"),
    *("Red", "Rose", "Russet", "Saffron", "Silver", "Slate", "Violet", "White"),
)
STARTS = (
    *("Al", "Bar", "Cal", "Dor", "El", "Fen", "Gal", "Hav", "Il", "Jor", "Kar", "Lun", "Mor", "Nav", "Or", "Pel"),
    *("Quar", "Ros", "Sel", "Tal", "Ur", "Vel", "Wes", "Yar", "Zam"),
)
MIDDLES = ("a", "e", "i", "o", "an", "ar", "en", "er", "im", "or", "ov", "un", "va", "vi")
ENDS = (
    *("ba", "dal", "dor", "field", "ford", "gard", "holm", "la", "lin", "mar", "mere", "na", "nia", "ra", "ro"),
    *("stad", "stein", "ta", "to", "ville"),
)


def invent_name(landmark_seed: int, words: Sequence[str]) -> str:
    """Invent a landmark's name, such as “Amber Castle of Ilvaro”, from the words for its kind."""
    rng = random.Random(f"name {landmark_seed}")
    town = rng.choice(STARTS) + rng.choice(MIDDLES) + rng.choice(ENDS)
    word = rng.choice(words)
    style = rng.random()
    if style < 0.55:
        return f"{rng.choice(COLORS)} {word} of {town}"
    return f"{town} {word}" if style < 0.8 else f"{word} of {town}"


def invent_coordinates(landmark_seed: int) -> tuple[float, float]:
    """Invent a latitude and a longitude, in degrees."""
    rng = random.Random(f"place {landmark_seed}")
    return round(rng.uniform(-55, 68), 4), round(rng.uniform(-180, 180), 4)
