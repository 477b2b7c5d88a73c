"""``GET /v1/gallery``, ``/v1/landmarks`` and ``/v1/photos``: what the gallery knows."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from obelisk.errors import PhotoError
from obelisk.gallery import (
    Gallery,
    Landmark,
    References,
    describe_photos,
    landmark_counts,
    matches_name,
)
from obelisk.gallery.landmarks import fold_letters
from obelisk.photos import encode_thumbnail, read_photo
from obelisk.service.problems import ProblemError, responses
from obelisk.service.service_state import ServiceState, State, published_source

MOST_PHOTOS_SHOWN = 1000  # of a landmark
THUMBNAIL = 320  # pixels of the longer side
LARGEST_PICTURE = 40_000  # bytes

router = APIRouter(prefix="/v1", tags=["gallery"])


class ServedGallery(BaseModel):
    """A gallery that a service answers from."""

    name: str = Field(description="bundled, or the name of its folder", examples=["bundled"])
    landmarks: int = Field(examples=[228])
    photos: int = Field(examples=[2757])
    revision: int = Field(description="number of changes made so far")


class ServedGalleries(BaseModel):
    """What a service answers from."""

    model: str = Field(description="name of the model that made the embeddings", examples=["bundled"])
    fingerprint: str = Field(description="of that model")
    galleries: list[ServedGallery]
    landmarks: int = Field(description="of all galleries", examples=[228])
    photos: int = Field(description="of all galleries", examples=[2757])
    photos_per_landmark: list[int] = Field(description="of each landmark, most first: the long tail")
    calibrated: bool = Field(description="whether a confidence is a probability")
    threshold: float | None = Field(description="confidence from which on landmarks are named; null if not calibrated")
    changes: bool = Field(description="whether this service lets landmarks be changed")


class ServedLandmark(BaseModel):
    """A landmark of the gallery."""

    id: int = Field(description="unique in its gallery", examples=[108502])
    gallery: str = Field(examples=["bundled"])
    name: str = Field(examples=["Space Needle"])
    photos: int = Field(description="number of its reference photos", examples=[24])
    latitude: float | None = Field(examples=[47.6204])
    longitude: float | None = Field(examples=[-122.3491])
    links: list[str] = Field(examples=[["https://commons.wikimedia.org/wiki/Category:Space_Needle"]])
    cover: str | None = Field(description="id of one of its reference photos", examples=["752c45c4ae2d2a98"])


class LandmarkPage(BaseModel):
    """Some of the landmarks, and how many there are in all."""

    total: int = Field(description="landmarks that match", examples=[228])
    landmarks: list[ServedLandmark]


class ServedPhoto(BaseModel):
    """A reference photo. `link` is where it was published, if that is known."""

    id: str
    link: str | None


class LandmarkWithPhotos(ServedLandmark):
    """A landmark and its reference photos."""

    reference_photos: list[ServedPhoto]


class PageQuery(BaseModel):
    """Which part of a list is wanted."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field("", max_length=200, description="words of a name; case and accents do not matter")
    offset: int = Field(0, ge=0, le=2**31 - 1)
    limit: int = Field(100, ge=1, le=1000)


GalleryName = Annotated[
    str | None, Query(alias="gallery", max_length=300, description="name of the gallery; by default the first")
]


@router.get("/gallery", summary="What the galleries hold", responses=responses(HTTPStatus.SERVICE_UNAVAILABLE))
def describe_galleries(state: State) -> ServedGalleries:
    """Return the model, the counts and the threshold."""
    recognizer, references = state.recognizer.current()
    galleries = state.recognizer.galleries()
    counts = [count for gallery in galleries.values() for count in landmark_counts(gallery).values() if count]
    return ServedGalleries(
        model=recognizer.gallery.model,
        fingerprint=recognizer.gallery.fingerprint,
        galleries=[
            ServedGallery(name=name, landmarks=len(part.landmarks), photos=len(part), revision=part.revision)
            for name, gallery in galleries.items()
            for part in [gallery.references()]
        ],
        landmarks=len(references.landmarks),
        photos=len(references),
        photos_per_landmark=sorted(counts, reverse=True),
        calibrated=recognizer.calibration is not None,
        threshold=recognizer.threshold(state.settings.precision),
        changes=state.settings.allow_changes,
    )


@router.get("/landmarks", summary="List landmarks", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_landmarks(state: State, query: Annotated[PageQuery, Query()]) -> LandmarkPage:
    """Return the landmarks of all galleries by name, some at a time."""
    found = [
        (fold_letters(landmark.name), name, landmark)
        for name, gallery in state.recognizer.galleries().items()
        for landmark in gallery.references().landmarks.values()
        if matches_name(query.search, landmark.name)
    ]
    found.sort(key=lambda one: (one[0], one[1], one[2].id))
    shown = found[query.offset : query.offset + query.limit]
    opened = {name: gallery.references() for name, gallery in state.recognizer.galleries().items()}
    served = {
        (name, one.id): one
        for name, references in opened.items()
        for one in serve_landmarks([landmark for _, owner, landmark in shown if owner == name], name, references)
    }
    return LandmarkPage(total=len(found), landmarks=[served[name, landmark.id] for _, name, landmark in shown])


@router.get(
    "/landmarks/{landmark_id}",
    summary="A landmark and its photos",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def show_landmark(state: State, landmark_id: int, gallery: GalleryName = None) -> LandmarkWithPhotos:
    """Return a landmark and its reference photos, at most 1,000."""
    name, opened = find_gallery(state, gallery)
    references = opened.references()
    landmark = find_served_landmark(references, landmark_id)
    (numbers,) = references.labels.photos_of(np.array([landmark_id]))
    shown = references.photos(numbers[:MOST_PHOTOS_SHOWN])
    photos = [ServedPhoto(id=photo.id, link=published_source(photo.source)) for photo in shown]
    (served,) = serve_landmarks([landmark], name, references)
    return LandmarkWithPhotos(**served.model_dump(), reference_photos=photos)


@router.get(
    "/photos/{photo_id:path}",
    summary="A small picture of a reference photo",
    responses={
        204: {"description": "The file of the photo is not at hand"},
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        **responses(HTTPStatus.NOT_FOUND),
    },
    response_class=Response,
)
def show_photo(state: State, photo_id: str, gallery: GalleryName = None) -> Response:
    """Return a reference photo as a JPEG of at most 320 pixels, if its file is at hand."""
    recognizer, _ = state.recognizer.current()
    known = find_gallery(state, gallery)[1].find_photo(photo_id)
    if known is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "the gallery has no photo with this id")
    try:
        data = recognizer.files.read(known)
        photo = read_photo(data, min_side=THUMBNAIL) if data else None
    except PhotoError:
        photo = None
    if photo is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    small, _ = encode_thumbnail(photo, width=THUMBNAIL, height=THUMBNAIL, largest=LARGEST_PICTURE)
    return Response(small, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def find_gallery(state: ServiceState, name: str | None) -> tuple[str, Gallery]:
    """Return a gallery and its name, by default the first; raise ProblemError if there is none of the name."""
    galleries = state.recognizer.galleries()
    if name is None:
        return next(iter(galleries.items()))
    if name not in galleries:
        raise ProblemError(HTTPStatus.NOT_FOUND, "there is no gallery of this name", fix="see /v1/gallery")
    return name, galleries[name]


def find_served_landmark(references: References, landmark_id: int) -> Landmark:
    """Return the landmark with an id; raise ProblemError if there is none."""
    landmark = references.landmarks.get(landmark_id)
    if landmark is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"the gallery has no landmark with the id {landmark_id}")
    return landmark


def serve_landmarks(landmarks: Sequence[Landmark], gallery: str, references: References) -> list[ServedLandmark]:
    """Return landmarks of one gallery as they are served."""
    found = describe_photos(references, [landmark.id for landmark in landmarks])
    return [
        ServedLandmark(
            id=landmark.id,
            gallery=gallery,
            name=landmark.name,
            photos=found[landmark.id][0],
            latitude=landmark.latitude,
            longitude=landmark.longitude,
            links=list(landmark.links),
            cover=found[landmark.id][1],
        )
        for landmark in landmarks
    ]
