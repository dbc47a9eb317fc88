"""A graph as text: DOT of Graphviz and Mermaid. Plates are nested boxes; one that crosses another is drawn within."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from guidedsl.graph import Kind, Node, Part

DOT_STYLES: dict[Kind, str] = {
    "data": 'shape=box, style=filled, fillcolor="#eeeeee"',
    "observed": 'shape=ellipse, style=filled, fillcolor="#c8c8c8"',
    "latent": "shape=ellipse",
    "param": "shape=hexagon",
    "let": 'shape=box, style="rounded,dashed"',
    "aux": "shape=ellipse, style=dashed",
    "joint": "shape=box, style=rounded",
    "factor": "shape=box, style=filled, fillcolor=black, fontcolor=white",
    "net": "shape=trapezium",
    "carry": 'shape=box, style="rounded,dotted"',
}
MERMAID_SHAPES: dict[Kind, tuple[str, str]] = {
    "data": ("[", "]"),
    "observed": ("([", "])"),
    "latent": ("([", "])"),
    "param": ("{{", "}}"),
    "let": ("(", ")"),
    "aux": ("([", "])"),
    "joint": ("(", ")"),
    "factor": ("[", "]"),
    "net": ("[/", "\\]"),
    "carry": ("(", ")"),
}
MERMAID_CLASSES = (
    "classDef data fill:#eeeeee,stroke:#555555,color:#000000",
    "classDef observed fill:#c8c8c8,stroke:#555555,color:#000000",
    "classDef latent fill:#ffffff,stroke:#555555,color:#000000",
    "classDef param fill:#ffffff,stroke:#555555,color:#000000",
    "classDef let fill:#ffffff,stroke:#555555,stroke-dasharray:4,color:#000000",
    "classDef aux fill:#ffffff,stroke:#555555,stroke-dasharray:4,color:#000000",
    "classDef joint fill:#ffffff,stroke:#555555,color:#000000",
    "classDef factor fill:#000000,stroke:#000000,color:#ffffff",
    "classDef net fill:#ffffff,stroke:#555555,color:#000000",
    "classDef carry fill:#ffffff,stroke:#555555,stroke-dasharray:2,color:#000000",
)


@dataclass
class Box:
    """A part or a plate of it, with what stands directly in it."""

    title: str
    nodes: list[Node] = field(default_factory=list)
    inner: dict[str, Box] = field(default_factory=dict)


def boxes(part: Part) -> Box:
    """The plates of a part as a tree."""
    root = Box(part.title)
    for node in part.nodes:
        box = root
        for plate in node.plates:
            box = box.inner.setdefault(plate, Box(part.titles[plate]))
        box.nodes.append(node)
    return root


def dot(parts: Sequence[Part]) -> str:
    """DOT, for Graphviz."""
    lines = ["digraph guide {", "  compound=true; rankdir=TB;", '  node [fontname="sans-serif", fontsize=11];']
    lines += ['  graph [fontname="sans-serif", fontsize=11, labeljust=l, color="#888888"];']
    open_box = _Counter(lambda n, title: f"subgraph cluster_{n} {{ label={_quoted(title)};")
    for part in parts:
        lines += _block(boxes(part), "  ", open_box, "}", _dot_node)
    lines += [f"  {a} -> {b};" for part in parts for a, b in part.edges]
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(parts: Sequence[Part]) -> str:
    """A Mermaid flowchart."""
    lines = ["flowchart TB"]
    open_box = _Counter(lambda n, title: f"subgraph b{n}[{_entities(title)}]")
    for part in parts:
        lines += _block(boxes(part), "  ", open_box, "end", _mermaid_node)
    lines += [f"  {a} --> {b}" for part in parts for a, b in part.edges]
    return "\n".join([*lines, *(f"  {line}" for line in MERMAID_CLASSES)]) + "\n"


class _Counter:
    """Opens boxes, each under a number of its own."""

    def __init__(self, text: Callable[[int, str], str]) -> None:
        self._text, self._number = text, 0

    def __call__(self, title: str) -> str:
        self._number += 1
        return self._text(self._number, title)


def _block(box: Box, indent: str, open_box: _Counter, close: str, node: Callable[[Node], str]) -> list[str]:
    lines = [indent + open_box(box.title)]
    lines += [f"{indent}  {node(one)}" for one in box.nodes]
    for inner in box.inner.values():
        lines += _block(inner, f"{indent}  ", open_box, close, node)
    return [*lines, indent + close]


def _dot_node(node: Node) -> str:
    return f"{node.id} [label={_quoted(node.label)}, {DOT_STYLES[node.kind]}];"


def _mermaid_node(node: Node) -> str:
    before, after = MERMAID_SHAPES[node.kind]
    return f"{node.id}{before}{_entities(node.label)}{after}:::{node.kind}"


def _quoted(text: str) -> str:
    """A string of DOT; a backslash would begin an escape."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _entities(text: str) -> str:
    """A quoted label of Mermaid, in which `#` begins an entity and HTML would be HTML."""
    special = '#"&<>`\\\n'
    return '"' + "".join(f"#{ord(char)};" if char in special else char for char in text) + '"'
