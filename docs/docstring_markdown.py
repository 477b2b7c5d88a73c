"""Docstrings as Markdown: roles, literal blocks and simple tables of reStructuredText."""

from __future__ import annotations

import ast
import re

RULE = re.compile(r"=+( +=+)+ *(\n|$)")  # where a simple table of a docstring begins, and ends
# What stands above a table without a head, by its number of columns.
HEADS = {2: ["name", "meaning"], 3: ["name", "shape", "meaning"]}


def to_markdown(text: str, linked: dict[str, str]) -> str:
    """Return a docstring as Markdown: roles become links, literal blocks fenced ones, tables tables."""
    parts: list[str] = []
    literal = False
    for paragraph in text.split("\n\n"):
        indented = all(line.startswith(" ") for line in paragraph.splitlines())
        if literal and indented and parts and parts[-1].startswith("```"):
            parts[-1] = parts[-1].removesuffix("\n```") + f"\n\n{unindent(paragraph)}\n```"
        elif literal and indented:
            parts.append(f"```{language_of(paragraph)}\n{unindent(paragraph)}\n```")
        elif RULE.match(paragraph):
            parts.append(tabulate(unindent(paragraph).splitlines(), linked))
        else:
            literal = paragraph.rstrip().endswith("::")
            if prose := re.sub(r"\s*::$", lambda found: "" if found[0] != "::" else ":", paragraph.rstrip()):
                parts.append(inline(prose, linked))
    return "\n\n".join(part for part in parts if part != ":") + "\n"


def tabulate(lines: list[str], linked: dict[str, str]) -> str:
    """Turn a simple table, columns marked by rows of ``=``, into one of Markdown."""
    starts = [column.start() for column in re.finditer("=+", lines[0])]
    spans = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[span].strip() for span in spans]
        if rows and not cells[0]:  # goes on from the line above
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
        elif not RULE.match(line):
            rows.append(cells)
    has_head = sum(bool(RULE.match(line)) for line in lines) > 2
    rows = rows if has_head else [HEADS[len(spans)], *rows]
    rows.insert(1, ["---"] * len(spans))
    return "\n".join(f"| {' | '.join(in_cell(inline(cell, linked)) for cell in row)} |" for row in rows)


def language_of(block: str) -> str:
    """Say how to highlight a literal block: as Python if it is some that calls or imports anything."""
    try:
        nodes = list(ast.walk(ast.parse(unindent(block))))
    except SyntaxError:
        return "python" if block.lstrip().startswith(">>>") else "text"
    return "python" if any(isinstance(node, ast.Call | ast.Import | ast.ImportFrom) for node in nodes) else "text"


def unindent(block: str) -> str:
    """Return a block without the indentation that all its lines share."""
    lines = block.splitlines()
    shared = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[shared:] for line in lines)


def inline(text: str, linked: dict[str, str]) -> str:
    """Turn the inline markup of a docstring into Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: link_to(found[1], linked), text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def link_to(name: str, linked: dict[str, str]) -> str:
    """Return a name as code, linked to its description where the page has one."""
    anchor = linked.get(name.split(".")[-1])
    return f"[`{name}`](#{anchor})" if anchor else f"`{name}`"


def as_code(text: str) -> str:
    """Return a fenced block of Python."""
    return f"```python\n{text}\n```\n"


def in_cell(text: str) -> str:
    """Return text on one line, fit for a table."""
    return " ".join(text.split()).replace("|", "\\|")
