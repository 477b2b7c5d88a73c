"""A made-up landmark and what stands around it, the same in all of its photos."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from obelisk.synthetic.bridges import bridge
from obelisk.synthetic.buildings import castle, church, domed_hall, lighthouse, temple
from obelisk.synthetic.mesh import Mesh

Ground = Literal["lawn", "plaza", "sand", "rock", "water"]
Backdrop = Literal["hills", "mountains", "city", "forest", "open"]
TreeKind = Literal["round", "conifer", "palm", "cypress"]
Wave = tuple[float, float, float]
"""amplitude, frequency and phase"""


@dataclass(frozen=True)
class LandmarkKind:
    """A kind of landmark: how to build it, words for it, GLDv2's supercategory, where it stands.

    ``reach`` is the largest azimuth that photos are taken from, in radians from the front.
    """

    build: Callable[[random.Random], Mesh]
    words: tuple[str, ...]
    category: str
    grounds: tuple[Ground, ...]
    backdrops: tuple[Backdrop, ...]
    reach: float


KINDS = {
    "lighthouse": LandmarkKind(
        lighthouse, ("Lighthouse", "Light"), "lighthouse", ("rock", "water", "sand"), ("open", "hills"), math.pi
    ),
    "castle": LandmarkKind(
        castle, ("Castle", "Fortress"), "castle", ("lawn", "rock", "water"), ("hills", "mountains", "forest"), math.pi
    ),
    "hall": LandmarkKind(
        domed_hall,
        ("Palace", "Rotunda", "Basilica"),
        "palace",
        ("plaza", "lawn", "water"),
        ("city", "hills", "open"),
        1.4,
    ),
    "church": LandmarkKind(
        church,
        ("Church", "Cathedral", "Abbey"),
        "church building",
        ("plaza", "lawn"),
        ("hills", "mountains", "city", "forest"),
        1.8,
    ),
    "temple": LandmarkKind(
        temple, ("Temple", "Treasury"), "temple", ("lawn", "rock", "plaza"), ("hills", "mountains", "open"), 1.3
    ),
    "bridge": LandmarkKind(bridge, ("Bridge",), "bridge", ("water",), ("hills", "mountains", "city", "forest"), 0.85),
}
# The kinds take turns, so that a dataset, whose seeds are consecutive, gets its share of each. Changing the order would
# change every seed's landmark.
TURNS = (
    *("church", "lighthouse", "bridge", "temple", "hall", "castle", "hall"),
    *("church", "temple", "castle", "bridge", "lighthouse", "church"),
)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree, in the same spot in every photo."""

    x: float
    y: float
    height: float
    kind: TreeKind


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that doesn't change from photo to photo; ``kind`` is None if the mesh isn't a landmark.

    The hills are a sum of the waves of ``outline``. ``tone`` in [−1, 1] varies the colors of ground and hills.
    ``favorites`` are the azimuths from which most photos are taken, ``reach`` is the largest one, in radians.
    """

    kind: str | None
    mesh: Mesh
    ground: Ground
    backdrop: Backdrop
    outline: tuple[Wave, ...]
    trees: tuple[Tree, ...]
    tone: float
    snowy: bool
    favorites: tuple[float, ...] = (0.0,)
    reach: float = math.pi


@functools.lru_cache(maxsize=64)
def build_scene(landmark_seed: int) -> Scene:
    """Build the landmark of a seed and its surroundings."""
    rng = random.Random(f"landmark {landmark_seed}")
    name = kind_of(landmark_seed)
    kind = KINDS[name]
    mesh = kind.build(rng)
    ground, backdrop = rng.choice(kind.grounds), rng.choice(kind.backdrops)
    warm = ground == "sand" or rng.random() < 0.2
    outline = tuple((rng.uniform(0.3, 1) / i, i * rng.uniform(1.2, 2.6), rng.uniform(0, 6.28)) for i in range(1, 5))
    return Scene(
        kind=name,
        mesh=mesh,
        ground=ground,
        backdrop=backdrop,
        outline=outline,
        trees=() if ground == "water" else plant_trees(rng, mesh, warm=warm),
        favorites=tuple(rng.uniform(-0.45, 0.45) * kind.reach for _ in range(3)),
        tone=rng.uniform(-1, 1),
        snowy=not warm,
        reach=kind.reach,
    )


def kind_of(landmark_seed: int) -> str:
    """Return the kind of a seed's landmark."""
    return TURNS[landmark_seed % len(TURNS)]


def plant_trees(rng: random.Random, mesh: Mesh, *, warm: bool) -> tuple[Tree, ...]:
    """Plant trees around a landmark, none of them in it."""
    kinds: tuple[TreeKind, ...] = ("palm", "cypress") if warm else ("round", "round", "conifer", "cypress")
    main = rng.choice(kinds)
    trees = []
    for _ in range(rng.choice((0, 4, 8, 12))):
        angle, far = rng.uniform(0, 2 * math.pi), mesh.radius * rng.uniform(1.35, 3.2)
        height = rng.uniform(0.18, 0.42) * (1.2 if main in ("palm", "cypress") else 1)
        kind = main if rng.random() < 0.8 else rng.choice(kinds)
        trees.append(Tree(x=far * math.cos(angle), y=far * math.sin(angle), height=height, kind=kind))
    return tuple(trees)
