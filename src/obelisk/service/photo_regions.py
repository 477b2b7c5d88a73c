"""What made a photo look like its nearest reference, as boxes that a page can draw."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from obelisk.embedding import Embedder
from obelisk.errors import PhotoError
from obelisk.gallery import Gallery, JoinedGallery, ReferenceFiles
from obelisk.recognition.explain.explanation import best_neighbor
from obelisk.recognition.explain.regions import Box, compare_maps
from obelisk.records import Recognition

RelativeBox = Annotated[list[float], Field(min_length=4, max_length=4)]


class MatchedRegion(BaseModel):
    """A region of the photo, and the region of the reference photo that matches it.

    Boxes are left, top, right, bottom, as shares of the photo's width and height: of the part that the model sees.
    """

    photo: RelativeBox = Field(examples=[[0.4, 0.1, 0.6, 0.5]])
    reference: RelativeBox = Field(examples=[[0.4, 0.1, 0.6, 0.5]])
    share: float = Field(description="of the similarity that comes from the photo's region, in [0, 1]", examples=[0.4])


class PhotoRegions(BaseModel):
    """The matched regions of one photo; empty where the file of the reference photo is not at hand."""

    reference_id: str | None = Field(description="the reference photo that it was compared with", examples=["a1b2c3"])
    regions: list[MatchedRegion]


NOTHING = PhotoRegions(reference_id=None, regions=[])


def find_regions(
    data: bytes, answer: Recognition, gallery: Gallery | JoinedGallery, embedder: Embedder, files: ReferenceFiles
) -> PhotoRegions:
    """Compare a photo with the nearest reference photo of its first candidate."""
    best = best_neighbor(answer, answer.neighbours)
    if answer.error or best is None:
        return NOTHING
    neighbor = answer.neighbours[best]
    original = files.read(gallery.find_neighbor(neighbor))
    if original is None:
        return NOTHING
    try:
        query, reference = embedder.features(data), embedder.features(original)
    except PhotoError:
        return NOTHING
    if query is None or reference is None:
        return NOTHING
    alike = compare_maps(query, reference)
    regions = [
        MatchedRegion(
            photo=relative_box(region.query, query.shape[1:]),
            reference=relative_box(region.reference, reference.shape[1:]),
            share=region.share,
        )
        for region in alike.regions
    ]
    return PhotoRegions(reference_id=neighbor.id, regions=regions)


def relative_box(box: Box, shape: tuple[int, ...]) -> RelativeBox:
    """Return a box in cells of a map (H, W) as shares of its sides: left, top, right, bottom."""
    top, left, bottom, right = box
    height, width = shape
    return [left / width, top / height, right / width, bottom / height]
