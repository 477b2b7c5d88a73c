"""Invented names and places for made-up landmarks."""

from __future__ import annotations

import random

WORDS = {
    "tower": ("Tower", "Clock Tower", "Bell Tower"),
    "lighthouse": ("Lighthouse", "Light"),
    "windmill": ("Windmill", "Mill"),
    "pagoda": ("Pagoda",),
    "obelisk": ("Obelisk", "Column", "Memorial"),
    "castle": ("Castle", "Fortress"),
    "hall": ("Palace", "Rotunda", "Basilica"),
    "church": ("Church", "Cathedral", "Abbey"),
    "temple": ("Temple", "Treasury"),
    "pyramid": ("Pyramid",),
    "bridge": ("Bridge",),
    "gate": ("Gate", "Arch"),
    "wheel": ("Wheel", "Great Wheel"),
}
COLOURS = (
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


def invent_name(seed: int, kind: str) -> str:
    """Return a landmark's name, such as “Amber Tower of Ilvaro”."""
    chance = random.Random(f"name {seed}")
    town = chance.choice(STARTS) + chance.choice(MIDDLES) + chance.choice(ENDS)
    thing = chance.choice(WORDS[kind])
    style = chance.random()
    if style < 0.55:
        return f"{chance.choice(COLOURS)} {thing} of {town}"
    if style < 0.8:
        return f"{town} {thing}"
    return f"{thing} of {town}"


def invent_place(seed: int) -> tuple[float, float]:
    """Return a latitude and a longitude, in degrees."""
    chance = random.Random(f"place {seed}")
    return round(chance.uniform(-55, 68), 4), round(chance.uniform(-180, 180), 4)
