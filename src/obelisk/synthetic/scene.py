"""A landmark and what stands around it, the same in all of its photos."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from obelisk.synthetic.buildings import boulders, castle, church, domed_hall, house_row, lighthouse, temple
from obelisk.synthetic.mesh import Mesh, MeshBuilder
from obelisk.synthetic.palette import STONES
from obelisk.synthetic.sketches import TREES

Wave = tuple[float, float, float]
"""amplitude, frequency and phase"""
TreeSpot = tuple[float, float, float, str]
"""x, y, height and kind of a tree"""


@dataclass(frozen=True)
class SceneKind:
    """A kind of scene: how to build what stands in it, the grounds and backdrops it may have.

    ``reach`` is the largest azimuth that photos are taken from, in radians from the front. A landmark has ``words`` for
    its name and a ``category`` of GLDv2.
    """

    build: Callable[[random.Random], MeshBuilder]
    grounds: str
    backdrops: str
    reach: float = math.pi
    words: str = ""
    category: str = ""


LANDMARKS = (
    SceneKind(church, "plaza lawn", "hills mountains city forest", 1.8, "Church Cathedral Abbey", "church building"),
    SceneKind(lighthouse, "rock water sand", "open hills", math.pi, "Lighthouse Light", "lighthouse"),
    SceneKind(temple, "lawn rock plaza", "hills mountains open", 1.3, "Temple Treasury", "temple"),
    SceneKind(domed_hall, "plaza lawn water", "city hills open", 1.4, "Palace Rotunda Basilica", "palace"),
    SceneKind(castle, "lawn rock water", "hills mountains forest", math.pi, "Castle Fortress", "castle"),
)
STREET = SceneKind(house_row, "plaza lawn", "city hills open forest", 0.7)
COUNTRY = SceneKind(boulders, "lawn lawn sand rock water", "hills mountains mountains forest open")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that doesn't change from photo to photo.

    ``ground`` is lawn, plaza, sand, rock or water, ``backdrop`` hills, mountains, city, forest or open. The hills are a
    sum of the waves of ``outline``; ``tone`` in [−1, 1] varies the colors of the ground. ``favorites`` are the azimuths
    from which most photos are taken, ``reach`` is the largest one, in radians.
    """

    mesh: Mesh
    ground: str
    backdrop: str
    outline: tuple[Wave, ...]
    trees: tuple[TreeSpot, ...]
    tone: float
    snowy: bool
    favorites: tuple[float, ...]
    reach: float


def kind_of(landmark_seed: int) -> SceneKind:
    """Return the kind of a seed's landmark. The kinds take turns, so that a dataset gets its share of each."""
    return LANDMARKS[landmark_seed % len(LANDMARKS)]


@functools.lru_cache(maxsize=64)
def landmark_scene(landmark_seed: int) -> Scene:
    """Build the landmark of a seed and its surroundings."""
    return build_scene(kind_of(landmark_seed), random.Random(f"landmark {landmark_seed}"))


def build_scene(kind: SceneKind, rng: random.Random) -> Scene:
    """Build a scene of a kind. What stands in water has an island; trees stand clear of what was built."""
    builder = kind.build(rng)
    radius = builder.build().radius
    ground, backdrop = rng.choice(kind.grounds.split()), rng.choice(kind.backdrops.split())
    if ground == "water":
        builder.start(rank=-1)
        reach = radius * 1.25
        builder.turned(0, 0, [(reach, -0.09), (reach * 0.98, 0), (0, 0)], rng.choice(STONES), 28)
    warm = ground == "sand" or rng.random() < 0.2
    kinds = ("palm", "cypress") if warm else TREES[:3]
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
        favorites=tuple(rng.uniform(-0.45, 0.45) * kind.reach for _ in range(3)),
        reach=kind.reach,
    )
