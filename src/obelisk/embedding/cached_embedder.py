"""An embedder that computes no photo twice: it stores its results, to the bit, in the descriptor cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from obelisk.embedding.bundle import Bundle
from obelisk.embedding.descriptor_cache import DescriptorCache
from obelisk.embedding.runtime import Embedded, Embedder
from obelisk.errors import PhotoTruncatedError
from obelisk.photos import PhotosLike, take_photos
from obelisk.records import Progress, no_progress


class CachedEmbedder(Embedder):
    """Embeds photos as :class:`Embedder` does, with the same runtime, and caches every row.

    ``logits`` is the number C of outputs of the bundle's softmax layer, or 0 to leave the layer out.
    """

    def __init__(self, bundle: Bundle, *, logits: int = 0, progress: Progress = no_progress) -> None:
        super().__init__(bundle, logits=logits > 0)
        self._cache = DescriptorCache(bundle, embedder=self, logits=logits)
        self._progress = progress
        self._known: dict[tuple[Path, bool], Embedded] = {}

    def embed(
        self, sources: PhotosLike, *, hashed: bool = True, cut_off: bool = False, located: bool = False
    ) -> Iterator[Embedded]:
        """Yield one :class:`Embedded` per photo, in input order, without its content hash.

        What ``cut_off`` allows is not cached, and neither are photos that are given as anything but paths.
        """
        photos = list(take_photos(sources))
        paths = dict.fromkeys(photo.source for photo in photos if isinstance(photo.source, Path))
        new = [path for path in paths if (path, cut_off) not in self._known]
        found = self._cache.get(new, what=f"embeddings of {self.bundle.name}", progress=self._progress)
        width = self.bundle.dimensions
        for index, (path, row) in enumerate(zip(new, found.rows, strict=True)):
            error = found.failed.get(index)
            if cut_off and isinstance(error, PhotoTruncatedError):
                self._known[path, cut_off] = self.embed_one(path, hashed=False, cut_off=True)
                continue
            self._known[path, cut_off] = Embedded(
                path=path,
                content_hash="",
                embedding=None if error else row[:width],
                error=error,
                logits=row[width:] if self.gives_logits and not error else None,
            )
        for photo in photos:
            if isinstance(photo.source, Path):
                stated = photo.state_position() if located else None
                yield replace(self._known[photo.source, cut_off], stated=stated)
            else:
                yield self.embed_one(photo, hashed=False, cut_off=cut_off, located=located)
