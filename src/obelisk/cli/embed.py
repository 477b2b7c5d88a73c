"""``obelisk embed``: the embeddings of a dataset, in shards on as many machines as there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from obelisk.bundled import locate_gallery
from obelisk.cli.console import Meter, count_of, note, require_extra, result, warn
from obelisk.errors import UsageError, quote

if TYPE_CHECKING:
    from obelisk.embedding.shards import ShardPlan, ShardReport

NAMED_FAILURES = 20  # all of them are in the parts


def embed_command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A GLDv2 dataset (its train photos, in tars or not), a folder per landmark, or a subset.",
            show_default=False,
            readable=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="The folder of the embeddings, which all shards share.", readable=False
        ),
    ],
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Embed the I-th of N shards.", show_default="all of DATA"),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="`local`: this process; `ray`: all cores of a Ray cluster (RAY_ADDRESS)."),
    ] = "local",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The model: a bundle, a run or `bundled`.",
            show_default="that of DIR, or the bundled one",
            parser=locate_gallery,
        ),
    ] = None,
    float16: Annotated[
        bool, typer.Option("--float16", help="Store embeddings as galleries do, in half the space.")
    ] = False,
) -> None:
    """Embed a dataset in shards, on as many machines as there are.

    `gallery build --embedded DIR` makes a gallery of its reference photos then. DIR gets Parquet files of 256 photos
    each, the same ones whatever N is. After an interruption the same command goes on, and embeds at most 256 photos
    again. Exits 1 if some photos could not be used; DIR names them.
    """
    from obelisk.embedding import Embedder
    from obelisk.embedding.shards import WHOLE, embed_on_ray, embed_shard, open_plan, parse_shard
    from obelisk.gallery import load_model

    chosen = WHOLE if shard is None else parse_shard(shard)
    if engine == "ray":
        require_extra("ray", module="ray", needed_for="--engine ray")
        if shard is not None:
            raise UsageError("Ray shares the work out itself", where=f"--shard {shard}", fix="leave --shard out")
    bundle = load_model(model or (out if (out / "model").is_dir() else locate_gallery(None)))
    embedder = Embedder(bundle)
    stored: Literal["float16"] | None = "float16" if float16 else None
    plan = open_plan(out, data, bundle, runtime=embedder.computes_with, stored=stored)
    with Meter() as meter:
        report = embed_on_ray(plan, data, meter) if engine == "ray" else embed_shard(plan, embedder, chosen, meter)
    report_embedded(plan, report, "" if shard is None else f" of shard {chosen}")


def report_embedded(plan: ShardPlan, report: ShardReport, which: str) -> None:
    """Name the photos that could not be used, and what is left to do."""
    for path, reason in report.failed[:NAMED_FAILURES]:
        warn(f"{reason} · {path}")
    if len(report.failed) > NAMED_FAILURES:
        warn(f"and {len(report.failed) - NAMED_FAILURES} more, listed in the column `error` of {plan.parts}")
    unusable = f", {len(report.failed)} of them unusable" if report.failed else ""
    result(f"{plan.folder}: {count_of(report.photos, 'photo')}{which} ({report.embedded} new{unusable})")
    if report.missing:
        note(f"{count_of(len(report.missing), 'part')} of other shards missing")
    else:
        note(f"all parts are there: `obelisk gallery build GALLERY --embedded {quote(str(plan.folder))}`")
    if report.failed:
        raise typer.Exit(1)
