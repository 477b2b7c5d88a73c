"""The page docs/api.md: every public name of every room, read from the source without importing it.

A room's public names are its ``__all__``. Reading the source keeps the page the same on every machine, whether or not
torch is installed there.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docstring_markdown import as_code, in_cell, link_to, to_markdown  # beside this file

SRC = Path(__file__).resolve().parents[1] / "src"
# In the order of the data; a room that is not named here follows at the end.
ROOMS = (
    "obelisk",
    "obelisk.config",
    "obelisk.photos",
    "obelisk.data",
    "obelisk.synthetic",
    "obelisk.embedding",
    "obelisk.gallery",
    "obelisk.recognition",
    "obelisk.evaluation",
    "obelisk.cleaning",
    "obelisk.outputs",
    "obelisk.training",
    "obelisk.bench",
    "obelisk.experiments",
)
MODULES = ("obelisk.records", "obelisk.arrays", "obelisk.defaults", "obelisk.errors")  # files that all rooms share
NOT_FOR_IMPORT = ("obelisk.cli", "obelisk.recipes")
WIDTH = 100  # a signature that is longer has a line for each parameter
LONGEST_VALUE = 60
SHOWN_DECORATORS = ("dataclass", "classmethod", "staticmethod", "contextmanager")

HEAD = """# Python API

Everything that `import obelisk` and the rooms below it export, from their docstrings. The names of `obelisk` itself
are the ones most programs need; [How to](how-to.md#use-it-from-python) shows them at work. Modules that are not listed
here are internal and may change without notice.

Shape letters are the same everywhere: N photos, Q queries, D dimensions, C landmarks, K neighbours, H W pixels.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Definition:
    """Where a public name is defined: its module, and its node in the module's syntax tree."""

    name: str
    module: str
    node: ast.stmt

    @property
    def is_constant(self) -> bool:
        """Whether it is a value or a type alias, not a class or function."""
        return isinstance(self.node, ast.Assign | ast.AnnAssign)


def render_api() -> str:
    """Return the page."""
    rooms = {room: {name: find_definition(room, name) for name in names_of(room)} for room in list_rooms()}
    homes: dict[Definition, str] = {}
    for room, definitions in rooms.items():
        for definition in definitions.values():
            homes.setdefault(definition, room)
    linked = {found.name: anchor_of(found.name) for found in homes if not found.is_constant}
    parts = [HEAD, *summarize_rooms(rooms)]
    for room, definitions in rooms.items():
        own = [found for found in definitions.values() if homes[found] == room]
        elsewhere = [found for found in definitions.values() if homes[found] != room]
        parts += render_room(room, own, elsewhere, linked)
    return "\n".join(parts).rstrip() + "\n"


def list_rooms() -> list[str]:
    """Return the packages that declare public names: the rooms in the order of the data, each with its subpackages."""
    files = sorted((SRC / "obelisk").rglob("__init__.py"))
    packages = [".".join(file.parent.relative_to(SRC).parts) for file in files]
    public = [name for name in packages if names_of(name) and not name.startswith(NOT_FOR_IMPORT)]

    def order(package: str) -> tuple[int, str]:
        room = ".".join(package.split(".")[:2])
        return ROOMS.index(room) if room in ROOMS else len(ROOMS), package

    return [*sorted(public, key=order), *MODULES]


def names_of(module: str) -> list[str]:
    """Return a package's ``__all__`` without dunder names, or what a shared module defines; else an empty list."""
    body = parse(module).body
    if module in MODULES:
        defined = [name for node in body for name in defined_names(node)]
        return [name for name in defined if not name.startswith("_")]
    for node in body:
        if isinstance(node, ast.Assign) and assigned_names(node) == ["__all__"]:
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    return []


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines."""
    if isinstance(node, ast.ClassDef | Function):
        return [node.name]
    return assigned_names(node) if isinstance(node, ast.Assign | ast.AnnAssign) else []


@functools.cache
def parse(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(source_of(module))


@functools.cache
def source_of(module: str) -> str:
    """Return the source of a module or package."""
    path = SRC.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")


@functools.cache
def find_definition(module: str, name: str) -> Definition:
    """Follow imports from a module to the place where a name is defined."""
    for node in parse(module).body:
        if name in defined_names(node) and not is_overload(node):
            return Definition(name=name, module=module, node=node)
    for imported in ast.walk(parse(module)):
        if isinstance(imported, ast.ImportFrom) and imported.module and imported.module.startswith("obelisk"):
            for alias in imported.names:
                if (alias.asname or alias.name) == name:
                    return find_definition(imported.module, alias.name)
    raise LookupError(f"{module} exports {name}, which it neither defines nor imports from a room")


def assigned_names(node: ast.Assign | ast.AnnAssign) -> list[str]:
    """Return the names that a statement assigns to, also by unpacking."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)]


def value_of(found: Definition) -> str:
    """Return the value of a constant as the source has it, empty for a mere annotation."""
    node = found.node
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    value, names = node.value, assigned_names(node)
    if isinstance(value, ast.Tuple) and len(value.elts) == len(names) > 1:
        value = value.elts[names.index(found.name)]
    return ast.unparse(value) if value else ""


def is_overload(node: ast.stmt) -> bool:
    """Say whether a function is one of the signatures that ``typing.overload`` marks."""
    return any(ast.unparse(decorator).endswith("overload") for decorator in getattr(node, "decorator_list", []))


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def summarize_rooms(rooms: dict[str, dict[str, Definition]]) -> list[str]:
    """Return the table of rooms with which the page opens."""
    rows = ["| import from | what it does |", "|---|---|"]
    for room in rooms:
        first = docstring_of(parse(room)).split("\n\n")[0].replace("\n", " ")
        rows.append(f"| [`{room}`](#{anchor_of(room)}) | {to_markdown(first, {}).strip()} |")
    return ["\n".join(rows) + "\n"]


def render_room(room: str, own: list[Definition], elsewhere: list[Definition], linked: dict[str, str]) -> Iterator[str]:
    """Yield the parts of the page that describe one room."""
    yield f"## `{room}`\n"
    yield to_markdown(docstring_of(parse(room)), linked)
    if elsewhere:
        yield f"Also exported here: {', '.join(link_to(found.name, linked) for found in elsewhere)}.\n"
    for definition in own:
        if isinstance(definition.node, ast.ClassDef):
            yield from render_class(definition.node, linked)
        elif isinstance(definition.node, Function):
            yield f"### `{definition.name}`\n"
            yield from render_function(definition.node, linked)
    if constants := [found for found in own if found.is_constant]:
        yield f"### Constants and types of `{room}`\n"
        yield "| name | value | meaning |\n|---|---|---|"
        yield "\n".join(tabulate_constant(found, linked) for found in constants) + "\n"


def render_function(node: Function, linked: dict[str, str]) -> Iterator[str]:
    """Yield signature and docstring of a function."""
    yield as_code(signature_of(node))
    yield to_markdown(docstring_of(node), linked)


def render_class(node: ast.ClassDef, linked: dict[str, str]) -> Iterator[str]:
    """Yield a class: fields or constructor, docstring, properties, methods."""
    yield f"### `{node.name}`\n"
    yield as_code(outline_class(node))
    yield to_markdown(docstring_of(node), linked)
    members = [member for member in node.body if isinstance(member, Function) and is_public(member)]
    properties = [member for member in members if is_property(member)]
    if properties:
        yield "| property | type | meaning |\n|---|---|---|"
        yield "\n".join(tabulate_property(member, linked) for member in properties) + "\n"
    for member in members:
        if member not in properties:
            yield f"#### `{node.name}.{member.name}`\n"
            yield from render_function(member, linked)


def is_public(member: Function) -> bool:
    """Say whether a method is shown: public ones, and those like ``__len__`` that have a docstring; no validators."""
    if is_overload(member) or member.name in ("__init__", "__post_init__", "__repr__", "__exit__"):
        return False
    if any("validator" in ast.unparse(decorator) for decorator in member.decorator_list):
        return False
    return not member.name.startswith("_") or (member.name.endswith("__") and ast.get_docstring(member) is not None)


def is_property(member: Function) -> bool:
    """Say whether a method is read like an attribute."""
    return any("property" in ast.unparse(decorator) for decorator in member.decorator_list)


def outline_class(node: ast.ClassDef) -> str:
    """Return a class as a stub: decorators, bases, the parameters of its constructor, annotated fields."""
    decorators = shown_decorators(node)
    bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
    lines = [f"class {node.name}({bases})" if bases else f"class {node.name}"]
    fields = [field for field in node.body if isinstance(field, ast.AnnAssign) and is_public_field(field)]
    constructor = next((f for f in node.body if isinstance(f, Function) and f.name == "__init__"), None)
    if fields:
        lines[0] += ":"
        lines += [f"    {ast.unparse(field.target)}: {describe_field(field)}" for field in fields]
    elif constructor and not bases:
        lines = [signature_of(constructor, name=node.name, keyword="class").removesuffix(" -> None")]
    return "\n".join([*decorators, *lines])


def is_public_field(field: ast.AnnAssign) -> bool:
    """Say whether a class's annotation declares a field that users see."""
    name = ast.unparse(field.target)
    return not name.startswith("_") and "ClassVar" not in ast.unparse(field.annotation)


def describe_field(field: ast.AnnAssign) -> str:
    """Return annotation and default of a field; a long default is left out."""
    annotation = ast.unparse(field.annotation)
    if field.value is None:
        return annotation
    value = ast.unparse(field.value)
    return f"{annotation} = {value if len(value) <= LONGEST_VALUE else '...'}"


def shown_decorators(node: ast.ClassDef | Function) -> list[str]:
    """Return the decorators that say how a name is used."""
    found = [ast.unparse(decorator) for decorator in node.decorator_list]
    return [f"@{text}" for text in found if text.split("(")[0].split(".")[-1] in SHOWN_DECORATORS]


def signature_of(node: Function, *, name: str = "", keyword: str = "def") -> str:
    """Return a function's signature without ``self``, on a line of its own for each parameter if it is long."""
    parameters = list(list_parameters(node.args))
    if parameters and parameters[0] in ("self", "cls"):
        parameters.pop(0)
        if parameters and parameters[0] == "/":
            parameters.pop(0)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    head = f"{keyword} {name or node.name}"
    line = f"{head}({', '.join(parameters)}){returned}"
    if len(line) > WIDTH:
        line = "\n".join([f"{head}(", *(f"    {parameter}," for parameter in parameters), f"){returned}"])
    return "\n".join([*shown_decorators(node), line])


def list_parameters(arguments: ast.arguments) -> Iterator[str]:
    """Yield the parameters of a signature as they are written, with ``/`` and ``*``."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True), start=1):
        yield describe_parameter(argument, default)
        if index == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield describe_parameter(argument, default)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def describe_parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """Return one parameter with annotation and default."""
    if default is None:
        return ast.unparse(argument)
    equals = " = " if argument.annotation else "="
    return f"{ast.unparse(argument)}{equals}{ast.unparse(default)}"


def tabulate_property(member: Function, linked: dict[str, str]) -> str:
    """Return the table row of a property."""
    kind = in_cell(f"`{ast.unparse(member.returns)}`" if member.returns else "")
    return f"| `{member.name}` | {kind} | {in_cell(to_markdown(docstring_of(member), linked))} |"


def tabulate_constant(found: Definition, linked: dict[str, str]) -> str:
    """Return the table row of a constant or type alias."""
    value = value_of(found)
    shown = f"`{value}`" if len(value) <= LONGEST_VALUE else ""
    return f"| `{found.name}` | {in_cell(shown)} | {in_cell(to_markdown(meaning_of(found), linked))} |"


def meaning_of(found: Definition) -> str:
    """Return what the source says of a constant: the docstring below it, or the comment beside or above it."""
    body = parse(found.module).body
    following = body[body.index(found.node) + 1 :][:1]
    if following and isinstance(following[0], ast.Expr) and isinstance(following[0].value, ast.Constant):
        return str(following[0].value.value)
    lines = source_of(found.module).splitlines()
    if found.node.end_lineno and "  # " in (line := lines[found.node.end_lineno - 1]):
        return line.split("  # ", 1)[1]
    above = []
    for line in reversed(lines[: found.node.lineno - 1]):
        if not line.startswith("# "):
            break
        above.append(line.removeprefix("# "))
    return " ".join(reversed(above))


def docstring_of(node: ast.Module | ast.ClassDef | Function) -> str:
    """Return a docstring with its indentation taken off, empty where there is none."""
    return ast.get_docstring(node) or ""
