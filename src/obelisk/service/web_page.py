"""The web page: files of ``page/``, as they are."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from obelisk.outputs import world_outline

PAGE = Path(__file__).parent / "page"


def serve_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files at ``/page/…``."""

    @app.get("/page/world.json", include_in_schema=False)
    def show_outline() -> JSONResponse:
        """Return the outline of the world's land, which albums draw, too."""
        return JSONResponse({"path": world_outline()})

    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def show_page() -> FileResponse:
        """Return the page."""
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})
