"""A made-up landmark and what stands around it, the same in all of its photos."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from obelisk.synthetic.buildings import castle, church, domed_hall, lighthouse
from obelisk.synthetic.mesh import Mesh, MeshBuilder
from obelisk.synthetic.palette import STONES

Wave = tuple[float, float, float]
"""amplitude, frequency and phase"""
TreeSpot = tuple[float, float, float, str]
"""x, y, height and kind of a tree"""


@dataclass(frozen=True)
class LandmarkKind:
    """A kind of landmark: how to build it, its grounds, its backdrops, words for it, GLDv2's supercategory."""

    build: Callable[[random.Random], MeshBuilder]
    grounds: str
    backdrops: str
    words: str
    category: str


LANDMARKS = (
    LandmarkKind(church, "plaza lawn", "hills mountains city forest", "Church Cathedral Abbey", "church building"),
    LandmarkKind(lighthouse, "rock water sand", "open hills", "Lighthouse Light", "lighthouse"),
    LandmarkKind(domed_hall, "plaza lawn water", "city hills open", "Palace Rotunda Basilica", "palace"),
    LandmarkKind(castle, "lawn rock water", "hills mountains forest", "Castle Fortress", "castle"),
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that doesn't change from photo to photo.

    ``ground`` is lawn, plaza, sand, rock or water, ``backdrop`` hills, mountains, city, forest or open. The hills are a
    sum of the waves of ``outline``; ``tone`` in [−1, 1] varies the colors of ground and hills. ``favorites`` are the
    azimuths from which most photos are taken.
    """

    mesh: Mesh
    ground: str
    backdrop: str
    outline: tuple[Wave, ...]
    trees: tuple[TreeSpot, ...]
    tone: float
    snowy: bool = True
    favorites: tuple[float, ...] = (0.0,)


def kind_of(landmark_seed: int) -> LandmarkKind:
    """Return the kind of a seed's landmark. The kinds take turns, so that a dataset gets its share of each."""
    return LANDMARKS[landmark_seed % len(LANDMARKS)]


@functools.lru_cache(maxsize=64)
def landmark_scene(landmark_seed: int) -> Scene:
    """Build the landmark of a seed and its surroundings: an island in water, or trees that stand clear of it."""
    rng, kind = random.Random(f"landmark {landmark_seed}"), kind_of(landmark_seed)
    builder = kind.build(rng)
    radius = builder.build().radius
    ground, backdrop = rng.choice(kind.grounds.split()), rng.choice(kind.backdrops.split())
    if ground == "water":
        builder.start(rank=-1)
        reach = radius * 1.25
        builder.turned(0, 0, [(reach, -0.09), (reach * 0.98, 0), (0, 0)], rng.choice(STONES), 28)
    warm = ground == "sand" or rng.random() < 0.2
    kinds = ("palm", "cypress") if warm else ("round", "conifer", "cypress")
    main, trees = rng.choice(kinds), []
    for _ in range(0 if ground == "water" else rng.choice((0, 4, 8, 12))):
        angle, far = rng.uniform(0, 2 * math.pi), radius * rng.uniform(1.35, 3.2)
        tree = main if rng.random() < 0.8 else rng.choice(kinds)
        trees.append((far * math.cos(angle), far * math.sin(angle), rng.uniform(0.2, 0.45), tree))
    return Scene(
        mesh=builder.build(),
        ground=ground,
        backdrop=backdrop,
        outline=tuple((rng.uniform(0.3, 1) / i, i * rng.uniform(1.2, 2.6), rng.uniform(0, 6.28)) for i in range(1, 5)),
        trees=tuple(trees),
        tone=rng.uniform(-1, 1),
        snowy=not warm,
        favorites=tuple(rng.uniform(-0.6, 0.6) for _ in range(3)),
    )
