"""What made a photo look like its nearest reference, as boxes that a page can draw."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from obelisk.errors import PhotoError
from obelisk.recognition import Recognizer
from obelisk.recognition.explain.regions import Box
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


def find_regions(recognizer: Recognizer, answer: Recognition, data: bytes) -> PhotoRegions:
    """Compare a photo with the nearest reference photo of its first candidate."""
    try:
        found = recognizer.find_resemblance(answer, data)
    except PhotoError:
        return NOTHING
    if found is None:
        return NOTHING
    neighbor, alike = found
    regions = [
        MatchedRegion(
            photo=relative_box(region.query, alike.query.shape),
            reference=relative_box(region.reference, alike.reference.shape),
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
