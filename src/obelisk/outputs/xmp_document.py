"""XMP sidecars, read and changed with care: what a change does not touch comes back as it was written.

An XMP file is RDF in XML (ISO 16684-1). Properties are children or attributes of ``rdf:Description``; lists are
``rdf:Bag`` or ``rdf:Seq`` with ``rdf:li`` inside. The XML is kept with its own prefixes, comments and white space. A
document type declaration is refused, and with it every entity that a file could define.
"""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from obelisk.errors import SidecarError

LARGEST = 16 * 10**6  # bytes; editors write their whole history into some
DEEPEST = 100  # elements inside each other
ENCODINGS = ("utf-8", "utf8", "utf-16", "utf-16le", "utf-16be")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PREFIXES = {
    RDF: "rdf",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/camera-raw-settings/1.0/": "crs",
    "https://github.com/obelisk-landmarks/obelisk/xmp/1.0/": "obelisk",
}
NAMESPACES = {prefix: uri for uri, prefix in PREFIXES.items()}
EMPTY = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Obelisk">\n '
    f'<rdf:RDF xmlns:rdf="{RDF}">\n  <rdf:Description rdf:about=""/>\n </rdf:RDF>\n</x:xmpmeta>\n'
)

Scope = dict[str, str]
"""Prefix → namespace, as declared by an element and those around it."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """An element with the prefixes that hold inside it, and how many elements are around it."""

    element: ET.Element
    scope: Scope
    depth: int

    @property
    def name(self) -> str:
        """The element's name, as ``{namespace}name``."""
        return resolve_name(self.element.tag, self.scope)

    def children(self) -> Iterator[Node]:
        """Yield the elements inside, without comments."""
        return (open_node(child, self) for child in self.element if isinstance(child.tag, str))

    def find(self, *names: str) -> Node | None:
        """Return the first element inside that has one of these names."""
        return next((child for child in self.children() if child.name in names), None)


class XmpDocument:
    """An XMP file in memory. Properties are named as in ``dc:subject``, whatever prefixes the file uses.

    Raises SidecarError for what is no XMP: no XML, a document type, no RDF.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        self.path = path
        self._encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            self._refuse("it is not UTF-8")
        self._parse(text)
        found = next(self._find_rdf(open_node(self._root, None)), None)
        if found is None:
            self._refuse("there is no XMP in it")
        self._rdf = found

    @classmethod
    def new(cls, path: Path) -> XmpDocument:
        """Return a document without properties."""
        return cls(EMPTY.encode(), path)

    @staticmethod
    def clean(text: str) -> str:
        """Return a text without the characters that XML cannot hold."""
        return NOT_XML.sub("\ufffd", text)

    def to_bytes(self) -> bytes:
        """Return the document in the encoding that it was read in."""
        return f"{self._head}{ET.tostring(self._root, encoding='unicode')}{self._tail}".encode(self._encoding)

    def items(self, name: str) -> list[str] | None:
        """Return the texts of a list; None if the document has no such property."""
        found = self._find_property(name)
        return None if found is None else [item.text or "" for item in self._open_list(name, found)[1]]

    def add_items(self, name: str, items: list[str], *, kind: str) -> None:
        """Add texts to the end of a list; a new one is a ``kind``: ``Bag`` or ``Seq``."""
        if not items:
            return
        found = self._find_property(name) or self._add_element(self._first_description(), name)
        if not len(found.element) and not (found.element.text or "").strip():
            container = self._add_element(found, f"rdf:{kind}")
        else:
            container = self._open_list(name, found)[0]
        for item in items:
            self._add_element(container, "rdf:li").element.text = item

    def remove_items(self, name: str, items: list[str]) -> None:
        """Take texts out of a list, and the list out of the document if it is empty then."""
        found = self._find_property(name)
        if found is None:
            return
        container, listed = self._open_list(name, found)
        for item in listed:
            if (item.text or "") in items:
                remove_child(container.element, item)
        if not any(True for _ in container.children()):
            self._remove_element(found)

    def value(self, name: str) -> str | None:
        """Return the text of a property that is no list; None if the document has no such property."""
        for description in self._descriptions():
            if (key := find_attribute(description, name)) is not None:
                return description.element.attrib[key]
        found = self._find_property(name)
        return None if found is None else "".join(found.element.itertext()).strip()

    def set_value(self, name: str, text: str) -> None:
        """Add a property that is no list."""
        self._add_element(self._first_description(), name).element.text = text

    def remove_value(self, name: str) -> None:
        """Take a property out of the document."""
        for description in self._descriptions():
            if (key := find_attribute(description, name)) is not None:
                del description.element.attrib[key]
        if found := self._find_property(name):
            self._remove_element(found)

    @property
    def is_empty(self) -> bool:
        """Whether there is no property at all."""
        return not any(
            True
            for description in self._descriptions()
            for name in [*(child.name for child in description.children()), *resolve_attributes(description)]
            if name != f"{{{RDF}}}about"
        )

    def _parse(self, text: str) -> None:
        """Build the tree, and keep what stands before and after it."""
        parser = expat.ParserCreate("utf-8")
        builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
        around: list[str] = []
        start, end = -1, -1

        def open_element(name: str, listed: list[str]) -> None:
            nonlocal start
            start = start if around else parser.CurrentByteIndex
            around.append(name)
            if len(around) > DEEPEST:
                self._refuse(f"more than {DEEPEST} elements are inside each other")
            builder.start(name, dict(zip(listed[::2], listed[1::2], strict=True)))

        def close_element(name: str) -> None:
            nonlocal end
            end = parser.CurrentByteIndex
            builder.end(around.pop())

        def check_declaration(version: str, encoding: str | None, standalone: int) -> None:
            if encoding and encoding.lower() not in ENCODINGS:
                self._refuse(f"its encoding is {encoding}, not UTF-8")

        def refuse_type(*words: object) -> None:
            self._refuse("it has a document type, which XMP does not need")

        parser.ordered_attributes = parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = open_element, close_element
        parser.CharacterDataHandler = builder.data
        parser.CommentHandler = lambda text: around and builder.comment(text)
        parser.ProcessingInstructionHandler = lambda target, text: around and builder.pi(target, text)
        parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = check_declaration, refuse_type
        encoded = text.encode()
        try:
            parser.Parse(encoded, True)
        except expat.ExpatError as error:
            self._refuse(f"it is no XML: {error}")
        self._root = builder.close()
        if not len(self._root):
            self._refuse("there is no XMP in it")
        self._head = encoded[:start].decode()
        self._tail = encoded[encoded.index(b">", end) + 1 :].decode()

    def _refuse(self, reason: str) -> NoReturn:
        raise SidecarError(
            f"the sidecar can't be used: {reason}",
            where=self.path,
            fix="move it away, or mend it; it was left as it is",
        )

    def _find_rdf(self, node: Node) -> Iterator[Node]:
        if node.name == f"{{{RDF}}}RDF":
            yield node
        else:
            for child in node.children():
                yield from self._find_rdf(child)

    def _descriptions(self) -> Iterator[Node]:
        return (child for child in self._rdf.children() if child.name == f"{{{RDF}}}Description")

    def _first_description(self) -> Node:
        found = next(self._descriptions(), None)
        return found or self._add_element(self._rdf, "rdf:Description", {"rdf:about": ""})

    def _find_property(self, name: str) -> Node | None:
        found = (description.find(full_name(name)) for description in self._descriptions())
        return next((one for one in found if one), None)

    def _open_list(self, name: str, found: Node) -> tuple[Node, list[ET.Element]]:
        """Return the container of a list, and its items."""
        container = found.find(*(full_name(f"rdf:{kind}") for kind in ("Bag", "Seq", "Alt")))
        if container is None:
            self._refuse(f"its {name} is no list")
        return container, [child.element for child in container.children() if child.name == full_name("rdf:li")]

    def _add_element(self, parent: Node, name: str, attributes: dict[str, str] | None = None) -> Node:
        """Add an element as the last one, on a line like that of the first; declare its prefix where that is new."""
        named = {declare(key, parent): value for key, value in (attributes or {}).items()}
        siblings = list(parent.element)
        child = ET.SubElement(parent.element, declare(name, parent), named)
        line = "\n" + " " * (parent.depth + 1)
        if siblings:
            line = parent.element.text if parent.element.text and not parent.element.text.strip() else line
            child.tail, siblings[-1].tail = siblings[-1].tail, line
        else:
            parent.element.text, child.tail = line, line[:-1]
        return open_node(child, parent)

    def _remove_element(self, node: Node) -> None:
        for description in self._descriptions():
            if node.element in list(description.element):
                remove_child(description.element, node.element)


def open_node(element: ET.Element, parent: Node | None) -> Node:
    """Return an element as a node, given the one around it."""
    declared = {key.partition(":")[2]: uri for key, uri in element.attrib.items() if key.split(":")[0] == "xmlns"}
    scope, depth = (parent.scope, parent.depth + 1) if parent else ({}, 0)
    return Node(element=element, scope={**scope, **declared}, depth=depth)


def resolve_name(name: str, scope: Scope) -> str:
    """Return a name of the file as ``{namespace}name``."""
    prefix, _, local = name.rpartition(":")
    return f"{{{scope.get(prefix, '')}}}{local}"


def full_name(name: str) -> str:
    """Return a name of ours, such as ``dc:subject``, as ``{namespace}name``."""
    return resolve_name(name, NAMESPACES)


def resolve_attributes(node: Node) -> dict[str, str]:
    """Return ``{namespace}name`` → the attribute's name in the file, without declarations of prefixes."""
    names = (name for name in node.element.attrib if ":" in name and not name.startswith(("xmlns:", "xml:")))
    return {resolve_name(name, node.scope): name for name in names}


def find_attribute(node: Node, name: str) -> str | None:
    """Return what the file calls one of our names as an attribute of an element; None if it has no such attribute."""
    return resolve_attributes(node).get(full_name(name))


def declare(name: str, node: Node) -> str:
    """Return one of our names with a prefix that holds inside an element; declare one there if none does."""
    prefix, _, local = name.partition(":")
    uri = NAMESPACES[prefix]
    known = (short for short, value in node.scope.items() if value == uri and short)
    found = next(known, None)
    if found is None:
        found = prefix
        while found in node.scope:
            found += "_"
        node.element.set(f"xmlns:{found}", uri)
        node.scope[found] = uri
    return f"{found}:{local}"


def remove_child(parent: ET.Element, child: ET.Element) -> None:
    """Take an element out of another one, and with it the white space before it."""
    before = list(parent).index(child) - 1
    if before >= 0:
        parent[before].tail = child.tail
    elif len(parent) == 1:
        parent.text = None
    parent.remove(child)
