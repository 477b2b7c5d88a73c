"""The photos that a picture shows, with their feature maps: none is decoded or run through the network needlessly."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from PIL import Image

from obelisk.embedding import LARGE_FILE, SHARP, Embedder, ReferenceCache, fit_picture
from obelisk.gallery import ReferenceFiles, ReferencePhoto
from obelisk.photos import GivenPhoto, is_full_size, read_query
from obelisk.recognition.explain.regions import Features
from obelisk.recognition.explain.shown_photos import read_if_possible, scale_photo
from obelisk.recognition.explain.strip import WIDEST_CELL

CELL = WIDEST_CELL * 3 // 4  # pixels of the shorter side of a photo that is shown small only: 4:3 fills a cell
KEPT = 32  # reference photos: neighbors of one photo are often those of the next


@dataclass(frozen=True, kw_only=True)
class SeenPhoto:
    """A photo, its longer side that of a panel at most, and its feature map (C, H, W), if there is one."""

    pixels: Image.Image
    features: Features | None = None


class SeenPhotos:
    """Reads photos for pictures, and keeps those that will be asked for again. Threads may share one object.

    After :meth:`watch`, a photo that the embedder embeds is kept until it is asked for: as long as every answer is
    drawn, only those on their way from one to the other are held.
    """

    def __init__(self, embedder: Embedder, files: ReferenceFiles) -> None:
        self._embedder = embedder
        self._files = files
        self._kept = ReferenceCache(embedder)
        # Photos are decoded once, for all parts of a picture and for the network.
        self._sharp = max(SHARP, embedder.bundle.input.size)
        self._embedded: dict[Path, tuple[Image.Image | None, Features | None]] = {}
        self._references: OrderedDict[ReferencePhoto, SeenPhoto] = OrderedDict()
        self._lock = Lock()

    def watch(self) -> None:
        """Keep what the embedder sees from now on."""
        self._embedder.on_features = self._keep

    def _keep(self, path: Path, digest: str, data: bytes, image: Image.Image, features: Features | None) -> None:
        # A photo that was decoded smaller than a picture shows it would be blurred.
        sharp = min(image.size) >= self._sharp or is_full_size(image, data)
        pixels = fit_picture(image) if sharp else None
        with self._lock:
            self._embedded[path] = pixels, features

    def query(self, photo: GivenPhoto) -> SeenPhoto:
        """Return the photo of an answer; raises PhotoError if it is not kept and can't be read."""
        with self._lock:
            pixels, features = self._embedded.pop(photo.path, (None, None))
        if pixels is None:
            image, _ = read_query(photo, min_side=self._sharp)
            features = self._embedder.features(image) if features is None else features
            pixels = fit_picture(image)
        return SeenPhoto(pixels=pixels, features=features)

    def reference(self, photo: ReferencePhoto | None, *, compared: bool) -> SeenPhoto | None:
        """Return a reference photo, with its feature map if it is ``compared``; None if its file is not at hand."""
        if photo is None:
            return None
        data = None
        if not self._files.is_unchanged(photo):
            data = self._files.read(photo)
            if data is None:  # it is gone, or holds another photo by now
                return None
        with self._lock:
            seen = self._references.get(photo)
        if seen is None or (compared and seen.features is None):
            seen = self._see(photo, data, compared=compared)
        if seen is None:
            return None
        with self._lock:
            self._references[photo] = seen
            self._references.move_to_end(photo)
            while len(self._references) > KEPT:
                self._references.popitem(last=False)
        return seen

    def _see(self, photo: ReferencePhoto, data: bytes | None, *, compared: bool) -> SeenPhoto | None:
        """Read a reference photo from what is kept of it, else from ``data``, or its file, and keep it."""
        digest = photo.content_hash
        features: Features | None = self._kept.find_map(digest) if compared else None
        unmapped = compared and features is None and self._embedder.gives_features
        picture = None if unmapped else self._kept.find_picture(digest)
        source = picture or data or self._files.read(photo)
        if source is None:
            return None
        image = read_if_possible(source, self._sharp if compared or len(source) > LARGE_FILE else CELL)
        if image is None:
            return None
        if picture is None:
            self._kept.keep_picture(digest, image, source)
        if unmapped:
            computed = self._embedder.features(image)
            features = None if computed is None else self._kept.keep_map(digest, computed)
        return SeenPhoto(pixels=fit_picture(image) if compared else scale_photo(image, WIDEST_CELL), features=features)
