"""``obelisk serve``: the HTTP API and the web page."""

from __future__ import annotations

import importlib.util
import os
import secrets
import tempfile
from typing import Annotated

import typer

from obelisk.bundled import BUNDLED
from obelisk.cli.console import note, note_remark
from obelisk.defaults import PRECISION
from obelisk.errors import MissingExtraError, UsageError

TOKEN_VARIABLE = "OBELISK_TOKEN"


def serve(
    galleries: Annotated[
        list[str] | None,
        typer.Option(
            "--gallery", metavar="G", help="Gallery to answer from; may be repeated.", show_default="the bundled one"
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="HOST", help="Address to listen on; 0.0.0.0 for all addresses of this machine."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for a free one.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Worker processes.")] = 1,
    precision: Annotated[
        float, typer.Option("--precision", help="Share of the given answers that should be right; sets the threshold.")
    ] = PRECISION,
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes",
            help="Let requests change the gallery if they carry the token: "
            f"that in {TOKEN_VARIABLE}, or a new one, which is printed.",
        ),
    ] = False,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Name by which clients call this service; repeatable."),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="ORIGIN", help="Site whose pages may call it, as https://…; repeatable."
        ),
    ] = None,
) -> None:
    """Serve the HTTP API and the web page, until Ctrl-C or SIGTERM.

    Accepted requests are answered before it ends. The API is described at /openapi.json.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("serve", needed_for="`obelisk serve`")
    import uvicorn

    from obelisk.service import ServiceSettings, create_app
    from obelisk.service.connection_limits import server_options
    from obelisk.service.live_recognizer import LiveRecognizer
    from obelisk.service.monitoring import MULTIPROCESS
    from obelisk.service.settings import VARIABLE

    if allow_changes:
        refuse_unchangeable(galleries or [])
    token = os.environ.get(TOKEN_VARIABLE, "")
    if allow_changes and not token:
        token = secrets.token_urlsafe(24)
        note(f"token for changes: {token}")
    settings = ServiceSettings(
        galleries=tuple(galleries or ()),
        precision=precision,
        allow_changes=allow_changes,
        token=token,
        hosts=tuple(hosts or ()),
        origins=tuple(origins or ()),
    )
    options = {**server_options(), "host": host, "port": port}
    shown = f"[{host}]" if ":" in host else host
    if workers == 1:
        app = create_app(settings)
        note_remark(app.state.service.recognizer.current()[0])
        note(f"http://{shown}:{port} · Ctrl-C ends it")
        uvicorn.run(app, **options)
        return
    with tempfile.TemporaryDirectory(prefix="obelisk-serve-") as counters:
        os.environ[VARIABLE] = settings.to_json()
        os.environ[MULTIPROCESS] = counters
        note_remark(LiveRecognizer(settings.galleries).current()[0])  # a gallery that can't be used starts no worker
        note(f"http://{shown}:{port} · {workers} workers · Ctrl-C ends it")
        uvicorn.run("obelisk.service:create_app", factory=True, workers=workers, **options)


def refuse_unchangeable(galleries: list[str]) -> None:
    """Raise UsageError unless there is one gallery, and it may be changed."""
    fix = "name one of your own: obelisk serve --gallery G --allow-changes"
    from obelisk.gallery import open_truth

    if len(galleries) > 1:
        raise UsageError("changes need one gallery", fix=fix)
    if not galleries or open_truth(galleries[0]).name == BUNDLED:
        raise UsageError("the bundled gallery can't be changed", fix=fix)
