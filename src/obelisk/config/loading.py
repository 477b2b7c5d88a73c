"""Read a recipe file, or a shipped recipe by name, and check it; all mistakes are reported together."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from obelisk.config.recipe import Recipe
from obelisk.config.renames import RENAMED, RENAMED_VALUES, to_present_names
from obelisk.errors import RecipeError, near_names
from obelisk.files import read_limited

LARGEST = 2**20  # bytes of a recipe
MOST_MISTAKES = 20  # that are listed


def shipped_recipes(folder: str = ".") -> list[str]:
    """Return the names of the recipes that come with the package, or of the files in a folder beside them."""
    names = (Path(entry.name) for entry in resources.files("obelisk.recipes").joinpath(folder).iterdir())
    return sorted(name.stem for name in names if name.suffix == ".toml")


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name, and apply ``section.key=value`` overrides.

    Values of overrides are TOML; a bare word is a string. Raises RecipeError, which lists all mistakes.
    """
    text, where = find_recipe(source)
    tables = parse(text, where)
    for override in overrides:
        apply_override(tables, override)
    return check(tables, where, overrides)


def load_recorded_recipe(run: Path) -> Recipe:
    """Read ``RUN/recipe.toml``, the resolved recipe that a training run wrote when it began.

    Keys and values of older versions are translated silently; :func:`load_recipe`, for recipes that people write,
    refuses them. :attr:`Recipe.fingerprint` doesn't depend on the names of keys, so it equals the one that the older
    version recorded in ``run.json`` and in checkpoints. Raises RecipeError if the file is missing or damaged.
    """
    text, where = find_recipe(str(run / "recipe.toml"))
    return check(to_present_names(parse(text, where)), where)


def parse(text: str, where: str) -> dict[str, Any]:
    """Read TOML; raises RecipeError if the text isn't TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"not TOML: {error}", where=where, fix="correct that line") from None


def check(tables: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Build a recipe from TOML tables; raises RecipeError, which lists all mistakes.

    ``overrides`` have been applied to the tables already: their mistakes are located at ``--set``, not in the file.
    """
    try:
        return Recipe.model_validate(tables)
    except ValidationError as error:
        problems = error.errors()
        more = [f"and {len(problems) - MOST_MISTAKES} more"] * (len(problems) > MOST_MISTAKES)
        mistakes = "; ".join([*map(explain, problems[:MOST_MISTAKES]), *more])
        keys = {find_key(problem) for problem in problems}
        named = {override.partition("=")[0].strip() for override in overrides}
        overridden = {key for key in keys if key in named or any(key.startswith(f"{one}.") for one in named)}
        locations = [where] * bool(keys - overridden) + ["--set"] * bool(overridden)
        fix = "every key is described in docs/recipes.md"
        raise RecipeError(mistakes, where=" and ".join(locations), fix=fix) from None


def find_recipe(source: str, folder: str = ".", what: str = "recipe") -> tuple[str, str]:
    """Return the text of a recipe file or shipped recipe, and where it was found.

    ``folder`` holds the shipped files, relative to the recipes; ``what`` is what errors call them.
    """
    path = Path(source)
    if path.is_file():
        try:
            return read_limited(path, LARGEST).decode("utf-8-sig"), str(path)
        except OSError as error:
            raise RecipeError(f"cannot be read: {error.strerror}", where=path, fix="name a recipe of yours") from error
        except UnicodeDecodeError:
            raise RecipeError("not a text file", where=path, fix="give a TOML file in UTF-8") from None
    shipped = shipped_recipes(folder)
    name = path.stem if path.suffix == ".toml" else source
    if name in shipped and path.parent in (Path(), Path("recipes")):
        file = resources.files("obelisk.recipes").joinpath(folder, f"{name}.toml")
        return file.read_text(encoding="utf-8"), f"{name}.toml"
    fix = near_names(name, shipped) or f"give a file, or one of: {', '.join(shipped)}"
    raise RecipeError(f"no {what} `{source}`", fix=fix)


def apply_override(tables: dict[str, Any], override: str) -> None:
    """Set one ``section.key=value`` in the tables of a recipe."""
    key, equals, text = override.partition("=")
    *sections, last = (part.strip() for part in key.split("."))
    if not equals or not last:
        raise RecipeError(f"--set {override!r} is not section.key=value", fix="for example --set loss.margin=0.2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override!r}: `{section}` is a value, not a section")
    table[last] = value


def find_key(problem: ErrorDetails) -> str:
    """Return the key that a mistake is about, or ``recipe`` if it is about several."""
    return ".".join(str(part) for part in problem["loc"]) or "recipe"


def explain(problem: ErrorDetails) -> str:
    """Describe one mistake in a recipe: its key, what is wrong, and the nearest known name."""
    key = find_key(problem)
    if problem["type"] == "extra_forbidden":
        if key in RENAMED:
            return f"`{key}` is called `{RENAMED[key]}` now"
        known = list(keys_beside(problem["loc"]))
        hint = near_names(str(problem["loc"][-1]), known) or f"known here: {', '.join(known)}"
        return f"unknown key `{key}`, {hint}"
    if problem["type"] == "missing":
        return f"missing key `{key}`"
    if problem["type"] == "literal_error" and (successor := RENAMED_VALUES.get(key, {}).get(str(problem["input"]))):
        return f"`{key}` = {problem['input']!r} is called {successor!r} now"
    reason = problem["msg"].removeprefix("Value error, ")
    return reason if key == "recipe" else f"`{key}` = {problem['input']!r}: {reason}"


def keys_beside(location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the keys of the section that a mistyped key is in."""
    model: Any = Recipe
    for part in location[:-1]:
        model = model.model_fields[str(part)].annotation
    yield from model.model_fields
