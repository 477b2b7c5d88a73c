"""What OpenAPI says of answers, made from the records themselves."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, TypeAdapter

from obelisk.records import Candidate, Neighbor, Recognition
from obelisk.service.photo_regions import PhotoRegions

EXAMPLE = Recognition(
    photo="photo.jpg",
    landmark="Space Needle",
    landmark_id=108502,
    verdict="sure",
    confidence=0.9989,
    latitude=47.6204,
    longitude=-122.3491,
    links=("https://commons.wikimedia.org/wiki/Category:Space_Needle",),
    candidates=(Candidate(landmark="Space Needle", landmark_id=108502, score=0.82, gallery="bundled"),),
    neighbours=(
        Neighbor(
            id="752c45c4ae2d2a98", landmark="Space Needle", landmark_id=108502, similarity=0.8575, gallery="bundled"
        ),
    ),
    threshold=0.83,
    model="bundled@8356872aa6ac",
)


def describe_answers() -> dict[str, Any]:
    """Return the schema of ``{"answers": […]}``, complete in itself."""
    answer = inline_references(TypeAdapter(Recognition).json_schema(mode="serialization"))
    neighbor = answer["properties"]["neighbours"]["items"]
    neighbor["properties"]["distance"] = {"type": "number", "title": "Distance"}
    regions = inline_references(TypeAdapter(PhotoRegions).json_schema(mode="serialization"))
    answer["properties"]["regions"] = regions
    return {
        "schema": {
            "type": "object",
            "required": ["answers"],
            "properties": {"answers": {"type": "array", "items": answer}},
        },
        "example": {"answers": [json.loads(EXAMPLE.to_json())]},
    }


def describe_form(*raw: str, **fields: str) -> dict[str, Any]:
    """Return what OpenAPI says of a body: a form of photos and ``fields`` by type, or the bytes of one photo."""
    binary = {"type": "string", "format": "binary"}
    properties = {
        **{name: {"type": kind} for name, kind in fields.items()},
        "photos": {"type": "array", "items": binary},
    }
    required = [name for name, kind in fields.items() if kind == "string"] + ["photos"]
    form = {"schema": {"type": "object", "required": required, "properties": properties}}
    content = {"multipart/form-data": form, **{kind: {"schema": binary} for kind in raw}}
    return {"requestBody": {"required": True, "content": content}}


def describe_document(model: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a JSON body that the route reads itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def inline_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with each ``$ref`` to its own definitions replaced by what it stands for."""
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return inline(definitions[part["$ref"].rpartition("/")[2]])
            return {key: inline(value) for key, value in part.items()}
        return [inline(item) for item in part] if isinstance(part, list) else part

    inlined: dict[str, Any] = inline(schema)
    return inlined


ANSWERS = describe_answers()
