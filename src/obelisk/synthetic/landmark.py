"""A made-up landmark: its shape and its surroundings, the same in all of its photos."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from obelisk.synthetic import halls, spans, towers
from obelisk.synthetic.mesh import Mesh

Ground = Literal["lawn", "plaza", "sand", "rock", "water"]
Backdrop = Literal["hills", "mountains", "city", "forest", "open"]
TreeKind = Literal["round", "conifer", "palm", "cypress"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of landmark: how it is built, where it stands, and from how far around it is photographed."""

    build: Callable[[random.Random], Mesh]
    category: str
    grounds: tuple[Ground, ...]
    backdrops: tuple[Backdrop, ...]
    reach: float


ANYWHERE: tuple[Backdrop, ...] = ("hills", "mountains", "city", "forest", "open")
KINDS: dict[str, Kind] = {
    "tower": Kind(
        build=towers.tower, category="tower", grounds=("lawn", "plaza", "plaza"), backdrops=ANYWHERE, reach=math.pi
    ),
    "lighthouse": Kind(
        build=towers.lighthouse,
        category="lighthouse",
        grounds=("rock", "water", "sand"),
        backdrops=("open", "hills"),
        reach=math.pi,
    ),
    "windmill": Kind(
        build=towers.windmill,
        category="windmill",
        grounds=("lawn", "lawn", "sand"),
        backdrops=("open", "forest", "hills"),
        reach=1.2,
    ),
    "pagoda": Kind(
        build=towers.pagoda,
        category="pagoda",
        grounds=("lawn", "plaza", "water"),
        backdrops=("forest", "mountains", "hills", "city"),
        reach=math.pi,
    ),
    "obelisk": Kind(
        build=towers.obelisk, category="monument", grounds=("plaza", "lawn"), backdrops=ANYWHERE, reach=math.pi
    ),
    "castle": Kind(
        build=towers.castle,
        category="castle",
        grounds=("lawn", "rock", "water"),
        backdrops=("hills", "mountains", "forest"),
        reach=math.pi,
    ),
    "hall": Kind(
        build=halls.domed_hall,
        category="palace",
        grounds=("plaza", "lawn", "water"),
        backdrops=("city", "hills", "open"),
        reach=1.4,
    ),
    "church": Kind(
        build=halls.church,
        category="church building",
        grounds=("plaza", "lawn"),
        backdrops=("hills", "mountains", "city", "forest"),
        reach=1.8,
    ),
    "temple": Kind(
        build=halls.temple,
        category="temple",
        grounds=("lawn", "rock", "plaza"),
        backdrops=("hills", "mountains", "open"),
        reach=1.3,
    ),
    "pyramid": Kind(
        build=halls.pyramid,
        category="pyramid",
        grounds=("sand", "sand", "lawn", "plaza"),
        backdrops=("open", "forest", "hills"),
        reach=0.9,
    ),
    "bridge": Kind(
        build=spans.bridge,
        category="bridge",
        grounds=("water",),
        backdrops=("hills", "mountains", "city", "forest"),
        reach=0.85,
    ),
    "gate": Kind(
        build=spans.gate, category="gate", grounds=("plaza", "lawn"), backdrops=("city", "hills", "open"), reach=1.0
    ),
    "wheel": Kind(
        build=spans.great_wheel,
        category="Ferris wheel",
        grounds=("plaza", "water", "lawn"),
        backdrops=("city", "open", "hills"),
        reach=0.9,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree that stands where it stands in every photo."""

    x: float
    y: float
    height: float
    kind: TreeKind


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """Everything about a landmark that does not change from photo to photo."""

    kind: str
    mesh: Mesh
    ground: Ground
    backdrop: Backdrop
    outline: tuple[tuple[float, float, float], ...]
    trees: tuple[Tree, ...]
    favourites: tuple[float, ...]
    tone: float
    snowy: bool


@functools.lru_cache(maxsize=64)
def make_landmark(seed: int) -> Landmark:
    """Return the landmark that belongs to a seed.

    ``favourites`` are the azimuths from which most of its photos are taken, in radians; ``outline`` holds the
    amplitude, frequency and phase of the waves of which its hills are made.
    """
    chance = random.Random(f"landmark {seed}")
    name = kind_name(seed)
    kind = KINDS[name]
    mesh = kind.build(chance)
    ground, backdrop = chance.choice(kind.grounds), chance.choice(kind.backdrops)
    warm = ground == "sand" or chance.random() < 0.2
    return Landmark(
        kind=name,
        mesh=mesh,
        ground=ground,
        backdrop=backdrop,
        outline=tuple(
            (chance.uniform(0.3, 1) / (i + 1), (i + 1) * chance.uniform(1.2, 2.6), chance.uniform(0, 6.28))
            for i in range(4)
        ),
        trees=() if ground == "water" else plant(chance, mesh, warm=warm),
        favourites=tuple(chance.uniform(-0.45, 0.45) * kind.reach for _ in range(3)),
        tone=chance.uniform(-1, 1),
        snowy=not warm,
    )


def kind_name(seed: int) -> str:
    """Return the kind of a seed's landmark: in turn, so that a dataset, whose seeds are consecutive, has all alike."""
    return list(KINDS)[seed % len(KINDS)]


def plant(chance: random.Random, mesh: Mesh, *, warm: bool) -> tuple[Tree, ...]:
    """Return the trees around a landmark, none of them in it."""
    kinds: tuple[TreeKind, ...] = ("palm", "cypress") if warm else ("round", "round", "conifer", "cypress")
    kind = chance.choice(kinds)
    trees = []
    for _ in range(chance.choice((0, 4, 8, 12))):
        angle, far = chance.uniform(0, 2 * math.pi), mesh.radius * chance.uniform(1.35, 3.2)
        trees.append(
            Tree(
                x=far * math.cos(angle),
                y=far * math.sin(angle),
                height=chance.uniform(0.18, 0.42) * (1.2 if kind in ("palm", "cypress") else 1),
                kind=kind if chance.random() < 0.8 else chance.choice(kinds),
            )
        )
    return tuple(trees)
