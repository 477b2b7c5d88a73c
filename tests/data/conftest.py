"""Makers of small datasets: drawn photos, GLDv2's layout, a folder per landmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from mirror import Mirror, open_mirror
from PIL import Image

DrawPhoto = Callable[..., Image.Image]
MakeGldv2 = Callable[..., Path]


def draw(seed: int, *, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Draw a picture of soft blotches with sharper ones on top: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (4, 12)]
    coarse, fine = (layer.resize(size, Image.Resampling.BICUBIC) for layer in layers)
    return Image.blend(coarse, fine, 0.4)


def write(root: Path, relative: str, seed: int) -> Path:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(seed).save(path)
    return path


def place(folder: str, image_id: str) -> str:
    return f"{folder}/{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"


def make(
    root: Path,
    labels: Mapping[str, int],
    queries: Mapping[str, str] | None = None,
    *,
    photos: bool = True,
    names: Mapping[int, str] | None = None,
) -> Path:
    """Make a GLDv2 dataset: ``labels`` image id → landmark, ``queries`` image id → the cell ``landmarks``."""
    metadata = root / "metadata"
    metadata.mkdir(parents=True)
    rows = [f"{image_id},http://photos.example/{image_id}.jpg,{landmark}" for image_id, landmark in labels.items()]
    (metadata / "train.csv").write_text("\n".join(["id,url,landmark_id", *rows]) + "\n")
    known = names if names is not None else {landmark: f"Place {landmark}" for landmark in labels.values()}
    rows = [f"{landmark},{name}" for landmark, name in known.items()]
    (metadata / "landmarks.csv").write_text("\n".join(["landmark_id,name", *rows]) + "\n")
    if queries is not None:
        rows = [f"{image_id},{landmarks},Public" for image_id, landmarks in queries.items()]
        text = "\n".join(["id,landmarks,Usage", *rows]) + "\n"
        (metadata / "recognition_solution_v2.1.csv").write_text(text)
    if photos:
        for seed, image_id in enumerate(labels):
            write(root, place("train", image_id), seed)
        for seed, image_id in enumerate(queries or {}):
            write(root, place("test", image_id), 10_000 + seed)
    return root


@pytest.fixture
def draw_photo() -> DrawPhoto:
    return draw


@pytest.fixture
def write_photo() -> Callable[[Path, str, int], Path]:
    return write


@pytest.fixture
def make_gldv2() -> MakeGldv2:
    return make


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A server with a tiny Google Landmarks v2 that misbehaves on request."""
    opened = open_mirror()
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a download goes."""
    return tmp_path / "gldv2"
