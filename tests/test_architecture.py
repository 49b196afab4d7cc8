"""The floors hold: a module imports only from lower floors, or from its own folder. And what a docstring says of its
source is in the register of behaviour.

A change to `FLOORS` is a change of the design.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from voisnap_mock.fidelity import Ground, behaviours

PACKAGE = Path(__file__).parent.parent / "voisnap_mock"


@dataclass(frozen=True)
class Floor:
    """Attributes: modules: dotted prefixes below the package; floor is their number; forbidden: top-level imports."""

    number: int
    modules: tuple[str, ...]
    forbidden: frozenset[str]


FRAMEWORKS = frozenset({"fastapi", "starlette", "uvicorn", "pydantic"})
EDGE = frozenset({"typer", "click", "rich", "pytest"})
IO = frozenset({"asyncio", "threading", "concurrent", "subprocess", "time", "socket", "os", "pathlib", "secrets"})

FLOORS = (
    Floor(
        0,
        (
            "signalr.binder",
            "signalr.connection",
            "signalr.errors",
            "signalr.messagepack",
            "signalr.messages",
            "signalr.payloads",
            "signalr.protocols",
            "signalr.resumption",
            "signalr.transports",
        ),
        IO | FRAMEWORKS | EDGE | {"random"},
    ),
    Floor(0, ("signalr",), FRAMEWORKS | EDGE),
    # A driver for uvicorn's sockets; nothing else of `signalr` imports it.
    Floor(0, ("signalr.uvicorn_ws",), (FRAMEWORKS - {"uvicorn"}) | EDGE),
    Floor(
        1,
        (
            "errors",
            "fidelity",
            "audio.frames",
            "audio.endpointing",
            "audio.fingerprint",
            "audio.mark_blocks",
            "audio.marks",
            "audio.playout",
            "audio.spoken_text",
            "audio.tiny_model.fst",
            "audio.tiny_model.graph",
            "audio.tiny_model.kaldi",
            "audio.tiny_model.lexicon",
            "audio.tiny_model.phones",
            "audio.tiny_model.wanted",
            "audio.tones",
            "agents",
            "engine",
            "webrtc.line",
            "webrtc.sdp",
            "faults",
        ),
        IO | FRAMEWORKS | EDGE | {"random"},
    ),
    Floor(
        2,
        (
            "cache",
            "clock",
            "coverage",
            "coverage_page",
            "testing.golden",
            "ids",
            "journal",
            "lint",
            "testing.story",
            "verifying",
            "recordings",
            "audio",
            "engine.runner",
            "webrtc",
        ),
        FRAMEWORKS | EDGE,
    ),
    Floor(
        3,
        (
            "cloud",
            "control",
            "caller",
            "sample_page",
            "replay",
            "tracks",
            "faults.desk",
            "faults.gate",
            "faults.http",
            "faults.own",
            "faults.wire",
        ),
        frozenset({"uvicorn"}) | EDGE,
    ),
    Floor(
        4,
        # The tool that makes the built-in model is a command; the rest of `audio` does not know it.
        (
            "config",
            "app",
            "server",
            "tenancy",
            "testing",
            "cli",
            "pytest_plugin",
            "__init__",
            "__main__",
            "audio.tiny_model.__main__",
        ),
        frozenset(),
    ),
)

# Reading time and making secrets are each at home in one place.
CLOCK_READERS = {"clock"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, path


def floor_of(module: str) -> Floor:
    """The floor whose prefix fits longest."""
    fits = [
        (len(prefix), floor)
        for floor in FLOORS
        for prefix in floor.modules
        if module == prefix or module.startswith(prefix + ".")
    ]
    assert fits, f"{module} stands on no floor: give it a place in FLOORS"
    return max(fits, key=lambda fit: fit[0])[1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every absolute import that runs (not under `if TYPE_CHECKING`), as (line, dotted name)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import from the defining module by its full name"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_from_its_floor_and_below(module: str, path: Path) -> None:
    floor = floor_of(module)
    own_folder = module.rpartition(".")[0]
    for line, imported in imports(path):
        where = f"{path}:{line}: {imported}"
        top = imported.split(".")[0]
        assert top not in floor.forbidden, f"{where} is not for floor {floor.number}"
        if top != "voisnap_mock":
            continue
        inner = imported.removeprefix("voisnap_mock").removeprefix(".")
        if inner in ("", "__version__"):
            continue
        target = next((name for name, _ in modules() if inner == name or inner.rpartition(".")[0] == name), inner)
        if module.startswith("signalr"):
            assert target.startswith("signalr"), f"{where}: signalr is self-contained"
        if floor.number in (1, 2):
            assert not target.startswith("signalr"), f"{where}: only hubs and the CLI speak SignalR"
        if own_folder and target.startswith(own_folder):
            continue
        assert floor_of(target).number <= floor.number, f"{where} stands on a higher floor than {module}"


def test_no_core_module_knows_of_faults() -> None:
    """The control routes and what puts the parts together do; coverage counts the points that were tried."""
    for module, path in modules():
        if module.split(".")[0] in ("faults", "control", "coverage") or floor_of(module).number == 4:
            continue
        for line, imported in imports(path):
            assert not imported.startswith("voisnap_mock.faults"), f"{path}:{line}: {imported}"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_only_the_clock_reads_time(module: str, path: Path) -> None:
    if module in CLOCK_READERS:
        return
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            call = f"{node.value.id}.{node.attr}"
            assert call not in {
                "time.time",
                "time.monotonic",
                "time.perf_counter",
                "datetime.now",
                "datetime.utcnow",
            }, f"{path}:{node.lineno}: {call}: ask the clock that was passed in"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_stays_readable_in_one_sitting(module: str, path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 700, f"{path} has {lines} lines: split it by reason to change"


# --- On whose word ----------------------------------------------------------------------------------------------

# What says where it comes from and is nothing that the service does.
NOT_THE_SERVICE = {
    "audio.fingerprint": "how known recordings are found",
    "audio.frames": "the format of files",
    "audio.tiny_model": "the formats of Vosk",
    "caller": "a client",
}


def sources(module: str, text: str) -> Iterator[tuple[str, str]]:
    """Every docstring with `Source:`, of a module, class, function, or of a value that it follows: (place, source)."""

    def look(
        node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
    ) -> Iterator[tuple[str, str]]:
        yield name, ast.get_docstring(node) or ""
        before: ast.stmt | None = None
        for child in node.body:
            inner = f"{name}.{{}}" if ":" in name else f"{name}:{{}}"
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from look(child, inner.format(child.name))
            elif (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
                and isinstance(before, ast.Assign | ast.AnnAssign)
            ):
                target = before.targets[0] if isinstance(before, ast.Assign) else before.target
                yield inner.format(ast.unparse(target)), child.value.value
            before = child

    for place, docstring in look(ast.parse(text), module):
        # In backticks it is only talked about.
        found = re.search(r"(?<!`)\bSource:(.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
        if found is not None:
            yield place, found[1]


def of_the_service() -> Iterator[tuple[str, str]]:
    """The modules that emulate something, with their text."""
    for name, path in modules():
        if not any(name == other or name.startswith(f"{other}.") for other in NOT_THE_SERVICE):
            yield name, path.read_text(encoding="utf-8")


IN_CODE = {
    place: {ground for ground in get_args(Ground) if ground.capitalize() in source}
    for module, text in of_the_service()
    for place, source in sources(module, text)
}
REGISTERED: dict[str, set[str]] = defaultdict(set)
for _, _behaviour in behaviours():
    for _place in _behaviour.places:
        REGISTERED[_place].add(_behaviour.ground)


@pytest.mark.parametrize("place", sorted(IN_CODE))
def test_what_a_docstring_says_of_its_source_is_registered_with_the_same_word(place: str) -> None:
    said = IN_CODE[place]
    assert said, f"{place}: its Source says none of Documented, Observed, Assumed"
    assert REGISTERED[place] == said, (
        f"{place} says {sorted(said)}, voisnap_mock/fidelity.py has {sorted(REGISTERED[place]) or 'nothing'}: "
        "give each of them a Behaviour there that names this place"
    )


def test_every_place_in_the_register_is_there() -> None:
    assert [place for place in REGISTERED if place not in IN_CODE] == []


def test_no_source_hides_in_a_comment_or_where_else_nobody_looks() -> None:
    hidden = [
        module
        for module, text in of_the_service()
        if len(re.findall(r"(?<!`)\bSource:", text)) != len(list(sources(module, text)))
    ]
    assert hidden == []


def test_a_docstring_of_any_kind_is_found() -> None:
    text = (
        '"""M.\n\nSource: Observed.\n"""\nclass A:\n  x = 1\n  """X. Source: Assumed."""\n  def f(self):\n    "No."\n'
    )
    assert list(sources("m", text)) == [("m", " Observed."), ("m:A.x", " Assumed.")]
