from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encode a picture in memory."""

    def to_bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
        out = BytesIO()
        image.save(out, format=kind, **options)
        return out.getvalue()

    return to_bytes


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A smooth RGB picture, 48 × 32, that no turn or mirror maps onto itself."""
    rows, columns = np.mgrid[0:32, 0:48]
    return Image.fromarray(np.stack([columns * 5, rows * 7, 255 - columns * 2 - rows * 3], axis=-1).astype(np.uint8))


@pytest.fixture(scope="session")
def fifty_photos(real_photos: Path) -> list[Path]:
    """Fifty of the real photos."""
    return sorted((real_photos / "test" / "0").rglob("*.jpg"))[:50]
