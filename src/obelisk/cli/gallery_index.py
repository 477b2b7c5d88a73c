"""``obelisk gallery index``: what proposes the candidates of a large gallery."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from obelisk.cli.console import Meter, count_of, result
from obelisk.cli.photo_arguments import NamedGallery

Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="E",
        help="own, pgvector (in PostgreSQL), or milvus://HOST:PORT/COLLECTION.",
        show_default="the gallery's present one",
    ),
]


def index_command(
    place: NamedGallery,
    engine: Engine = None,
    recall: Annotated[
        bool,
        typer.Option("--recall", help="Measure how many of the 10 nearest photos are found, which reads them all."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a large gallery's index up to date, or choose its engine.

    Every proposal is measured with the gallery's own embeddings, and what is newer than the index is compared one by
    one, so answers are exact and up to date with every engine. own is a file that each machine makes for itself. Up to
    200,000 photos no engine is asked. The password of Milvus is read from OBELISK_MILVUS_TOKEN (user:password).
    """
    from obelisk.gallery import Gallery, index_gallery

    with Meter() as meter:
        done = index_gallery(Gallery.open(place, progress=meter), engine, recall=recall, progress=meter)
    if as_json:
        result(json.dumps(vars(done), ensure_ascii=False))
        return
    found = f"; recall@10 {done.recall:.3f}" if done.recall is not None else ""
    remark = "" if done.asked else "; so few are compared one by one"
    result(f"{done.gallery}: {count_of(done.photos, 'photo')}, engine {done.engine}{remark}{found}")
