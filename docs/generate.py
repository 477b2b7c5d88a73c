"""Write the pages that come from the code.

docs/recipes.md is made from the recipe schema, docs/cli.md from ``--help``, docs/api.md from docstrings, and
docs/landmarks.md from the bundled gallery. Run ``python docs/generate.py`` after a change of any of these; a test
compares the pages.
"""

from __future__ import annotations

import re
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import typer
from api_reference import render_api  # beside this file
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from obelisk.bundled import bundled_gallery
from obelisk.cli.main import make_app
from obelisk.config import (
    Recipe,
    Section,
    as_toml,
    find_recipe,
    load_ablation,
    load_recipe,
    shipped_ablations,
    shipped_recipes,
)
from obelisk.errors import RecipeError
from obelisk.gallery import Gallery

DOCS = Path(__file__).resolve().parent
WIDTH = 100
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TYPES = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}

# One example of each combination of keys that the schema refuses, set on a sound recipe.
REFUSED = (
    ("loss.kind=none",),
    ("neck.kind=whitening",),
    ("neck.kind=identity",),
    ("loss.kind=softmax", "classifier.kind=softmax", "neck.per_backbone=true"),
    ("classifier.kind=softmax", "finetuning.epochs=1"),
    ("loss.kind=triplet", "training.photos_per_landmark=0"),
    ("training.photos_per_landmark=8", "training.batch_size=4"),
    ("training.sampling=m_per_class", "training.photos_per_landmark=0"),
    ("training.sampling=class_balanced", "training.photos_per_landmark=4"),
    ("loss.kind=multi_similarity", "loss.mining=batch_hard", "training.photos_per_landmark=4"),
    ("loss.kind=arcface", "loss.memory=1024"),
    (
        "loss.kind=triplet",
        "training.photos_per_landmark=4",
        "finetuning.epochs=1",
        "finetuning.batch_size=16",
        "finetuning.micro_batches=4",
    ),
    ("loss.kind=softmax", "loss.sampled_share=0.1"),
    ("ensemble.weights=[1]",),
    ('ensemble.runs=["runs/a"]',),
    ('ensemble.runs=["runs/a", "runs/b"]', "ensemble.weights=[1]"),
    ('ensemble.runs=["runs/a", "runs/b"]',),
    ("finetuning.keep=best",),
)

RECIPES_HEAD = """# Recipes

A recipe is a TOML file that holds every choice of a training run. Each key has a default; only `name` is required. An
unknown key is an error that names the nearest known one, and a renamed key is an error that names its successor. All
mistakes of a file are reported together.

`obelisk train RECIPE --set section.key=value` changes a key; the value is TOML, and a bare word is a string. The
resolved recipe, with the value of every key, is written to `RUN/recipe.toml`. This page is made from the schema.
"""

CLI_HEAD = """# The command line

Results go to stdout; progress, notes and warnings go to stderr. There is no color when piped. `--json` prints one JSON
object per line. `--debug`, anywhere on the line, shows the traceback of an error.
[How to](how-to.md#read-the-exit-code) explains the exit codes. This page is made from `--help`.
"""


# The landmarks of the bundled gallery that are not in or near Washington State.
ELSEWHERE = {
    "Eiffel Tower": "Paris, France",
    "Geisel Library": "San Diego, California",
    "Golden Gate Bridge": "San Francisco, California",
    "Great Wall of China": "China",
    "Haleakala National Park": "Maui, Hawaii",
    "Leaning Tower of Pisa": "Pisa, Italy",
    "Mount Rushmore": "South Dakota",
    "Niagara Falls": "Ontario and New York",
    "Parthenon": "Athens, Greece",
    "Pyramids": "Giza, Egypt",
    "Stonehenge": "Wiltshire, England",
    "Sydney Opera House": "Sydney, Australia",
}

LANDMARKS_HEAD = """# The landmarks of the bundled gallery

`obelisk recognize` without `--gallery` knows these {count} landmarks. {near} are in or near Washington State, USA, and
{elsewhere} are elsewhere. A photo of anything else should be answered by "not a landmark I know". To recognize other
places, [build a gallery of your own](how-to.md#recognize-your-own-places): it takes a folder of photos for each.

Each name leads to its category at Wikimedia Commons. Positions are latitude and longitude in degrees, north and east
positive.

Names and reference photos are those of Google Landmarks v2. The gallery holds the photos' embeddings, and links to most
of them on Wikimedia Commons, but no pixels. The [model card](../src/obelisk/bundled/gallery/model/card.md) says how the
model was trained, how good it is, and under which licence it comes.
"""


def main() -> None:
    """Write the pages."""
    for name, text in render_pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def render_pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {
        "recipes.md": render_recipes(),
        "cli.md": render_cli(),
        "api.md": render_api(),
        "landmarks.md": render_landmarks(),
    }


def render_recipes() -> str:
    """Return the page of recipe keys, and of the recipes that come with the package."""
    sections = {name: kind for name, field in Recipe.model_fields.items() if (kind := section_of(field))}
    keys = {name: field for name, field in Recipe.model_fields.items() if name not in sections}
    parts = [RECIPES_HEAD, "## Shipped recipes\n", list_shipped(), "## Shipped ablations\n", list_ablations()]
    parts += ["## Top of the file\n", tabulate_keys(keys)]
    for name, section in sections.items():
        parts += [f"## `[{name}]`\n", f"{section.__doc__}\n", tabulate_keys(section.model_fields)]
    parts += ["## Combinations that are refused\n", list_refusals()]
    return join(parts)


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field of a recipe is, None for a single key."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def list_shipped() -> str:
    """Return the shipped recipes: what each is, its command, its cost and its expected scores."""
    items = [describe_file(name, load_recipe(name).title, find_recipe(name)[0]) for name in shipped_recipes()]
    return "\n".join(items) + "\n"


def list_ablations() -> str:
    """Return the shipped ablations, likewise."""
    items = [
        describe_file(name, load_ablation(name).title, find_recipe(name, "ablations", "ablation")[0])
        for name in shipped_ablations()
    ]
    return "\n".join(items) + "\n"


def describe_file(name: str, title: str, text: str) -> str:
    """Return a list item for a shipped file, with the facts in its header below it."""
    return "\n".join([f"- `{name}`: {title}", *(f"  - {fact}: {value}" for fact, value in read_header(text).items())])


def read_header(text: str) -> dict[str, str]:
    """Return the facts in the comment at the top of a recipe: command, hardware, expected.

    A fact may continue on further lines; of a command, the first line is the command and the rest a remark.
    """
    facts: dict[str, str] = {}
    fact = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if found := re.match(r"# (command|hardware|expected)\s+(.*)", line):
            fact, value = found[1], found[2].strip()
            facts[fact] = f"`{value}`" if fact == "command" else value
        elif fact and line.startswith("#  "):
            separator = "; " if facts[fact].endswith("`") and fact == "command" else " "
            facts[fact] += separator + line.removeprefix("#").strip()
        else:
            fact = ""
    return facts


def tabulate_keys(fields: dict[str, FieldInfo]) -> str:
    """Return a table of keys: values, default, meaning."""
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "must be given" if field.is_required() else f"`{as_toml(field.default)}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {describe_values(field)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def describe_values(field: FieldInfo) -> str:
    """Say in words which values a key takes."""
    kind: typing.Any = field.annotation
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f'`"{choice}"`' for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        named = "list of texts" if typing.get_args(kind)[0] is str else "list of numbers"
    else:
        named = TYPES[kind]
    bounds = [
        f"{sign} {getattr(rule, bound):g}"
        for rule in field.metadata
        for bound, sign in BOUNDS.items()
        if hasattr(rule, bound)
    ]
    if any(hasattr(rule, "min_length") for rule in field.metadata):
        bounds.append("not empty")
    return ", ".join([named, *bounds])


def list_refusals() -> str:
    """Return the combinations of keys that are refused, in the words of the error."""
    items = []
    for overrides in REFUSED:
        try:
            load_recipe("arcface", overrides)
        except RecipeError as error:
            items.append(f"- {error.what}")
    return "\n".join(items) + "\n"


def render_cli() -> str:
    """Return the page of commands: the help of each one."""
    parts = [CLI_HEAD]
    for words in list_commands(typer.main.get_command(make_app())):
        result = CliRunner().invoke(make_app(), [*words, "--help"], prog_name="obelisk", terminal_width=WIDTH)
        parts += [f"## `{' '.join(['obelisk', *words])}`\n", f"```text\n{result.output.strip()}\n```\n"]
    return join(parts)


def list_commands(command: typing.Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command, and of all its subcommands."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from list_commands(below, (*words, name))


def render_landmarks() -> str:
    """Return the page of the landmarks that the bundled gallery knows, with their places."""
    gallery = Gallery.open(bundled_gallery())
    photos = Counter(photo.landmark_id for photo in gallery.photos)
    landmarks = sorted(gallery.landmarks, key=lambda landmark: landmark.name)
    far = ["| landmark | where | position | reference photos |", "|---|---|---|---:|"]
    near = ["| landmark | position | reference photos |", "|---|---|---:|"]
    for landmark in landmarks:
        link = landmark.links[0].replace("(", "%28").replace(")", "%29")
        name = f"[{landmark.name}]({link})"
        facts = f"{landmark.latitude:.4f}, {landmark.longitude:.4f} | {photos[landmark.id]} |"
        if landmark.name in ELSEWHERE:
            far.append(f"| {name} | {ELSEWHERE[landmark.name]} | {facts}")
        else:
            near.append(f"| {name} | {facts}")
    head = LANDMARKS_HEAD.format(count=len(landmarks), near=len(near) - 2, elsewhere=len(far) - 2)
    return join([head, "## Elsewhere\n", *far, "\n## In and near Washington State\n", *near])


def join(parts: list[str]) -> str:
    """Join the parts of a page, without trailing spaces."""
    text = "\n".join(parts)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


if __name__ == "__main__":
    main()
