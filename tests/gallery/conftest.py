"""Photos of one color a landmark, and a model that sees nothing but colors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obelisk.data import read_catalog
from obelisk.embedding import Bundle, Embedded
from obelisk.errors import PhotoError
from obelisk.gallery import BuildReport, build_gallery
from obelisk.photos import content_hash, read_photo

COLORS = {"Dome": (220, 40, 40), "Gate": (40, 200, 40), "Tower": (40, 40, 230)}
DIMENSIONS = 24


class ColorEmbedder:
    """Stands in for the runtime: a histogram of the three channels, 8 bins each; counts the photos it saw."""

    computes_with = "histograms"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.seen: list[Path] = []

    def embed(self, sources: Iterable[Path]) -> Iterator[Embedded]:
        for path in sources:
            self.seen.append(path)
            try:
                pixels = np.asarray(read_photo(path))
            except PhotoError as error:
                yield Embedded(path=path, content_hash="", embedding=None, error=error)
                continue
            row = np.concatenate([np.histogram(pixels[..., c], bins=8, range=(0, 256))[0] for c in range(3)])
            row = (row / np.linalg.norm(row)).astype(np.float32)
            yield Embedded(path=path, content_hash=content_hash(path.read_bytes()), embedding=row)


def save_photo(path: Path, color: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(color) + rng.normal(0, 30, size=(24, 24, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


MakeBundle = Callable[[str], Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> MakeBundle:
    def make(name: str) -> Bundle:
        about = {"size": 24, "resize": "squash", "dimensions": DIMENSIONS}
        return write_any_bundle(tmp_path / "models" / name, name.encode(), name=name, **about)

    return make


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle("colors")


@pytest.fixture
def embedder(bundle: Bundle) -> ColorEmbedder:
    return ColorEmbedder(bundle)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder per landmark: 3 landmarks of 4, 3 and 2 photos."""
    for number, (name, color) in enumerate(COLORS.items()):
        for photo in range(4 - number):
            save_photo(tmp_path / "places" / name / f"{photo}.png", color, seed=10 * number + photo)
    return tmp_path / "places"


@pytest.fixture
def photograph() -> Callable[[Path, tuple[int, int, int], int], None]:
    return save_photo


@pytest.fixture
def build(tmp_path: Path, places: Path, bundle: Bundle, embedder: ColorEmbedder) -> Callable[..., BuildReport]:
    """Build the gallery `city` from the places, or from other `data`."""

    def build(*, data: Path = places, **options: Any) -> BuildReport:
        return build_gallery(tmp_path / "city", read_catalog(data), bundle, embedder=embedder, **options)

    return build
