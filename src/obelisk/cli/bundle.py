"""``obelisk bundle``: embedding networks that other code exported become model bundles."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from obelisk.cli.console import WholeHelp, count_of, note, require_extra, result, warn
from obelisk.errors import UsageError

bundle_app = typer.Typer(
    cls=WholeHelp,
    name="bundle",
    help="Make a model bundle of a network that other code exported.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Numbers = tuple[float, float, float]


class ResizeName(StrEnum):
    """How a photo becomes a square."""

    squash = "squash"
    crop = "crop"


class PoolingName(StrEnum):
    """How tokens or maps become one row."""

    cls = "cls"
    avg = "avg"
    gem = "gem"
    cls_gem = "cls+gem"


class LayoutName(StrEnum):
    """Where the input has its channels."""

    nchw = "nchw"
    nhwc = "nhwc"


@bundle_app.command("import")
def import_network_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An embedding network.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle; it will be created.")],
    licence: Annotated[
        str,
        typer.Option("--licence", metavar="NAME", help="Licence of the weights, as their source states it."),
    ] = "",
    output: Annotated[
        str | None, typer.Option("--output", metavar="NAME", help="The output to take, where there are several.")
    ] = None,
    pooling: Annotated[
        PoolingName | None,
        typer.Option("--pooling", help="How to pool tokens or maps; default: a class token, else their average."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, max=4096, help="Side of the square input, pixels.")
    ] = None,
    resize: Annotated[
        ResizeName | None, typer.Option("--resize", help="How a photo becomes a square; default: squash.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="R,G,B", help="Subtracted from each channel in [0, 1].")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Divides each channel afterwards.")] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option("--layout", help="Where the input has its channels; default: as its shape says."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What people call the model; default: the file's name.")] = "",
    photos: Annotated[
        Path | None,
        typer.Option("--photos", metavar="FOLDER", help="Photos to check the network on; default: made-up ones."),
    ] = None,
    whiten: Annotated[
        Path | None,
        typer.Option("--whiten", metavar="DATA", help="Learn a PCA whitening from the photos in this folder."),
    ] = None,
) -> None:
    """Make a bundle of an ONNX network, checked on photos.

    What is not given is read from a `preprocessor_config.json` beside the network, or in the folder above.
    Tokens and feature maps are pooled; channels may come last; the embeddings get unit length.
    A network with weights in other files, operators of its own or control flow is refused, and one that gives numbers
    that are not finite, the same embedding for all photos, or another one each time.
    """
    require_extra("train", module="onnx", needed_for="importing a network")
    if not licence.strip():
        fix = "--licence Apache-2.0, say; or --licence unknown, if its source states none"
        raise UsageError("the licence of the weights is not given", where=model, fix=fix)
    from obelisk.training.export.import_bundle import PhotoRule, import_network

    imported = import_network(
        model,
        out,
        licence=licence.strip(),
        rule=PhotoRule(
            size=size,
            resize=resize.value if resize else None,
            mean=read_numbers("--mean", mean),
            std=read_numbers("--std", std),
        ),
        output=output,
        pooling=pooling.value if pooling else None,
        layout=layout.value if layout else None,
        name=name,
        photos=photos,
        whiten=whiten,
    )
    for error in imported.skipped:
        warn(f"left out: {error}")
    if imported.config:
        note(f"photo rule: {imported.config}")
    if imported.pooled:
        note(f"pooled by {imported.pooled}")
    if imported.whitened:
        note(f"whitened over {count_of(imported.whitened, 'photo')}")
    if imported.one_by_one:
        note("it takes one photo at a time")
    rule = imported.bundle.input
    note(
        f"{imported.bundle.dimensions} dimensions, photos of {rule.size} px ({rule.resize}); "
        f"checked on {count_of(imported.photos, 'photo')}"
    )
    result(str(out))


def read_numbers(option: str, text: str | None) -> Numbers | None:
    """Read three numbers, or one for all three."""
    if text is None:
        return None
    fix = f"give three numbers, {option} 0.5,0.5,0.5, or one for all channels"
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r}", fix=fix) from None
    if len(numbers) == 1:
        numbers *= 3
    low, high = (-10.0, 10.0) if option == "--mean" else (1e-4, 1e4)
    if len(numbers) != 3 or not all(low <= number <= high for number in numbers):
        raise UsageError(f"{option} {text!r}: each from {low:g} to {high:g}", fix=fix)
    return numbers[0], numbers[1], numbers[2]
