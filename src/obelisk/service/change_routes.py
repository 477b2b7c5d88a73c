"""Changes of the gallery: only of a service that allows them, and only with its token.

A change is on the disk when it is acknowledged. Of a photo that is added, the embedding is kept, not the photo.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery import Gallery, Landmark, References, add_uploaded, target_landmark
from obelisk.photos import GivenPhoto
from obelisk.positions import Position
from obelisk.recognition import calibrate_gallery
from obelisk.service.landmark_routes import (
    ServedLandmark,
    find_gallery,
    find_served_landmark,
    serve_landmarks,
)
from obelisk.service.problems import ProblemError, parse_document, refuse_value, responses
from obelisk.service.schemas import describe_document, describe_form
from obelisk.service.service_state import ServiceState, State
from obelisk.service.uploads import Form, Upload

bearer = HTTPBearer(auto_error=False, description="the token that `obelisk serve --allow-changes` printed")


def require_token(state: State, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
    """Raise ProblemError unless a request carries the service's token."""
    wanted = state.settings.token.encode()
    if given is None or not hmac.compare_digest(given.credentials.encode(), wanted):
        what = "a change needs the service's token" if given is None else "this is not the service's token"
        headers = {"WWW-Authenticate": "Bearer"}
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED, what, fix="send it as `Authorization: Bearer TOKEN`", headers=headers
        )


router = APIRouter(prefix="/v1", tags=["changes"], dependencies=[Depends(require_token)])
REFUSALS = responses(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class AddedPhoto(BaseModel):
    """The outcome for one photo: its id in the gallery, or why it was not added."""

    photo: str = Field(description="its name, as sent")
    id: str | None
    new: bool = Field(description="false if the gallery had its very bytes already")
    error: str | None


class AddedPhotos(BaseModel):
    """A landmark after photos were added to it; null if none could be."""

    landmark: ServedLandmark | None
    photos: list[AddedPhoto]


class LandmarkFields(BaseModel):
    """The fields of the form that makes a landmark."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=500)
    latitude: float | None = Field(None, ge=-90, le=90)
    longitude: float | None = Field(None, ge=-180, le=180)


class NewName(BaseModel):
    """What a landmark is to be called."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=500, examples=["South Gate"])


class MergedLandmarks(BaseModel):
    """The landmarks to merge into another."""

    model_config = ConfigDict(extra="forbid")

    ids: list[int] = Field(min_length=1, max_length=1000, description="of the landmarks whose photos move")


@router.post(
    "/landmarks",
    status_code=HTTPStatus.CREATED,
    summary="Add a landmark",
    responses=REFUSALS,
    openapi_extra=describe_form(name="string", latitude="number", longitude="number"),
)
async def add_served_landmark(request: Request, state: State, later: BackgroundTasks) -> AddedPhotos:
    """Add a landmark with its first photos. One whose name the gallery has is refused: add photos to it instead."""
    async with state.bodies.read(request) as form:
        try:
            fields = LandmarkFields.model_validate(form.fields)
        except ValidationError as error:
            raise refuse_value(error) from error
        return await run_in_threadpool(add_new_landmark, state, fields, form, later)


@router.post(
    "/landmarks/{landmark_id}/photos",
    summary="Add photos of a landmark",
    responses=REFUSALS,
    openapi_extra=describe_form(),
)
async def add_served_photos(request: Request, state: State, landmark_id: int, later: BackgroundTasks) -> AddedPhotos:
    """Add photos of a landmark that the gallery has."""
    async with state.bodies.read(request) as form:
        return await run_in_threadpool(add_more_photos, state, landmark_id, form, later)


async def read_new_name(request: Request, state: State) -> NewName:
    """Read the body of a request that renames a landmark, once its token was checked."""
    return parse_document(NewName, await state.bodies.read_document(request))


async def read_merged(request: Request, state: State) -> MergedLandmarks:
    """Read the body of a request that merges landmarks, once its token was checked."""
    return parse_document(MergedLandmarks, await state.bodies.read_document(request))


@router.patch(
    "/landmarks/{landmark_id}",
    summary="Rename a landmark",
    responses=REFUSALS,
    openapi_extra=describe_document(NewName),
)
def rename_served_landmark(
    state: State, landmark_id: int, new: Annotated[NewName, Depends(read_new_name)]
) -> ServedLandmark:
    """Rename a landmark."""
    gallery, references = changed_gallery(state)
    find_served_landmark(references, landmark_id)
    with refusing_conflicts():
        gallery.rename(landmark_id, new.name)
    state.metrics.changes.labels("rename").inc()
    return show_changed(state, landmark_id)


@router.post(
    "/landmarks/{landmark_id}/merge",
    summary="Merge landmarks into one",
    responses=REFUSALS,
    openapi_extra=describe_document(MergedLandmarks),
)
def merge_served_landmarks(
    state: State,
    landmark_id: int,
    merged: Annotated[MergedLandmarks, Depends(read_merged)],
    later: BackgroundTasks,
) -> ServedLandmark:
    """Move all photos of some landmarks to this one, and remove the others."""
    gallery, references = changed_gallery(state)
    for one in (landmark_id, *merged.ids):
        find_served_landmark(references, one)
    with refusing_conflicts():
        gallery.merge(merged.ids, landmark_id)
    finish_change(state, "merge", later)
    return show_changed(state, landmark_id)


@router.delete(
    "/landmarks/{landmark_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a landmark and its photos",
    responses=REFUSALS,
)
def remove_served_landmark(state: State, landmark_id: int, later: BackgroundTasks) -> None:
    """Remove a landmark with all its photos."""
    gallery, references = changed_gallery(state)
    find_served_landmark(references, landmark_id)
    with refusing_conflicts():
        gallery.remove(landmarks=[landmark_id])
    finish_change(state, "remove", later)


@router.delete(
    "/landmarks/{landmark_id}/photos",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove photos of a landmark",
    responses=REFUSALS,
)
def remove_served_photos(
    state: State, landmark_id: int, ids: Annotated[list[str], Query(max_length=1000)], later: BackgroundTasks
) -> None:
    """Remove photos of a landmark by their ids. A landmark goes with its last photo."""
    gallery, references = changed_gallery(state)
    find_served_landmark(references, landmark_id)
    for photo_id in ids:
        photo = gallery.find_photo(photo_id)
        if photo is None or photo.landmark_id != landmark_id:
            raise ProblemError(HTTPStatus.NOT_FOUND, "the landmark has no photo with one of these ids")
    with refusing_conflicts():
        gallery.remove(photos=ids)
    finish_change(state, "remove", later)


def add_new_landmark(state: ServiceState, fields: LandmarkFields, form: Form, later: BackgroundTasks) -> AddedPhotos:
    """Add a landmark with photos, in a thread."""
    if (fields.latitude is None) != (fields.longitude is None):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "a position has a latitude and a longitude")
    gallery, references = changed_gallery(state)
    with refusing_conflicts():
        target = target_landmark(gallery, fields.name)
        if any(landmark.name == fields.name for landmark in references.landmarks.values()):
            what = f"the gallery has a landmark called `{fields.name}`"
            raise ProblemError(HTTPStatus.CONFLICT, what, fix="add photos to it, or choose another name")
    position = None
    if fields.latitude is not None and fields.longitude is not None:
        position = Position(fields.latitude, fields.longitude)
    return add_to(state, target, form.require_photos(), later, position=position)


def add_more_photos(state: ServiceState, landmark_id: int, form: Form, later: BackgroundTasks) -> AddedPhotos:
    """Add photos of a landmark, in a thread."""
    _, references = changed_gallery(state)
    landmark = find_served_landmark(references, landmark_id)
    form.refuse_fields(fix="send only photos")
    return add_to(state, landmark, form.require_photos(), later)


def add_to(
    state: ServiceState,
    landmark: Landmark | int | str,
    photos: Sequence[Upload],
    later: BackgroundTasks,
    *,
    position: Position | None = None,
) -> AddedPhotos:
    """Add photos of a landmark."""
    recognizer, _ = state.recognizer.current()
    gallery, _ = changed_gallery(state)
    with refusing_conflicts():
        given = [GivenPhoto(name=photo.name, source=photo.data) for photo in photos]
        additions = add_uploaded(gallery, given, landmark, position=position, embedder=recognizer.embedder)
    outcomes = [
        AddedPhoto(
            photo=photo.name,
            id=addition.photo.id if addition.photo else None,
            new=addition.new,
            error=str(addition.error) if addition.error else None,
        )
        for photo, addition in zip(photos, additions, strict=True)
    ]
    kept = next((one.photo for one in additions if one.photo and not one.error), None)
    if kept is None:
        return AddedPhotos(landmark=None, photos=outcomes)
    finish_change(state, "add", later)
    return AddedPhotos(landmark=show_changed(state, kept.landmark_id or 0), photos=outcomes)


@contextmanager
def refusing_conflicts() -> Iterator[None]:
    """Answer what a gallery refuses by a problem; its path stays here."""
    try:
        yield
    except GalleryLockedError:
        raise
    except GalleryError as error:
        raise ProblemError(HTTPStatus.CONFLICT, error.what, fix=error.fix) from error


def finish_change(state: ServiceState, kind: str, later: BackgroundTasks) -> None:
    """Count a change, and calibrate the gallery again once the change was acknowledged."""
    state.metrics.changes.labels(kind).inc()
    later.add_task(calibrate_gallery, changed_gallery(state)[0])


def show_changed(state: ServiceState, landmark_id: int) -> ServedLandmark:
    """Return a landmark as it is after a change."""
    name, gallery = find_gallery(state, None)
    references = gallery.references()
    return serve_landmarks([find_served_landmark(references, landmark_id)], name, references)[0]


def changed_gallery(state: ServiceState) -> tuple[Gallery, References]:
    """Return the gallery that is changed, and what it holds now; a service that allows changes has one."""
    _, gallery = find_gallery(state, None)
    return gallery, gallery.references()
