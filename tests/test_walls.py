"""The walls of the house: who may import whom. Read from the source, so that no import is missed because it is late."""

import ast
from pathlib import Path

import pytest

import mmfa

ROOT = Path(mmfa.__file__).parent
FORBIDDEN = {
    # room: what it may not know
    "nets": ("media", "priors", "train", "evaluate", "dataset", "session", "requests", "cli", "engine", "models"),
    "models": ("media", "priors", "train", "evaluate", "dataset", "session", "requests", "cli", "engine"),
    "media": ("nets", "models", "priors", "train", "evaluate", "dataset", "session", "engine", "portrait"),
    "priors": ("nets", "models", "train", "evaluate", "dataset", "session", "engine", "cli"),
    "compose": ("nets", "models", "priors", "train", "evaluate", "dataset", "session", "requests", "cli", "engine"),
    "engine": ("media", "priors", "train", "evaluate", "dataset", "session", "requests", "cli", "models"),
    "session.py": ("train", "evaluate", "dataset", "requests", "cli", "models"),
    "driving.py": ("train", "evaluate", "dataset", "requests", "cli", "models"),
    "animate.py": ("train", "evaluate", "dataset", "requests", "cli", "models"),
    "requests": ("train", "evaluate", "dataset", "cli", "models"),
    "expressions.py": ("train", "evaluate", "dataset", "session", "requests", "cli", "models"),
    "evaluate": ("train", "requests", "cli", "models"),
    "dataset": ("train", "evaluate", "session", "cli", "models"),
    "train": ("cli", "requests"),
    "cli": ("nets", "models", "priors", "engine"),
    "portrait.py": ("nets", "models", "media", "priors", "session", "engine", "registry"),
}


def imports(path: Path) -> set[str]:
    """Modules of mmfa that a file imports anywhere in it, but for those that only a type checker sees."""
    package = ("mmfa", *path.relative_to(ROOT).parts[:-1])
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name.startswith("mmfa.")}


FILES = {
    ".".join(("mmfa", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_knows_what_it_should_not(room: str) -> None:
    paths = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert paths
    for path in paths:
        for name in imports(path):
            other = name.split(".")[1]
            assert other not in FORBIDDEN[room], f"{path.relative_to(ROOT)} imports {name}"


def test_no_circles() -> None:
    graph = {name: sorted(imports(path) & FILES.keys() - {name}) for name, path in FILES.items()}
    state: dict[str, int] = {}

    def walk(name: str, trail: list[str]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, " -> ".join([*trail[trail.index(name) :], name])
        state[name] = 1
        for other in graph[name]:
            walk(other, [*trail, name])
        state[name] = 2

    for name in graph:
        walk(name, [])


def test_only_models_and_training_name_a_kind() -> None:
    """Inference, editing, expressions and evaluation know models by the contract alone."""
    names = ("LiteMMFA", "PaperMMFA", "LiteParams", "PaperParams", "models.lite", "models.paper", "models.mmfa")
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] in ("models", "train") or path.name == "registry.py":
            continue
        text = path.read_text(encoding="utf-8")
        assert not [name for name in names if name in text], path


def test_the_command_line_holds_no_logic() -> None:
    """What carries a command out is 15 lines at most; parsers, which only list options, may be longer."""
    for path in sorted((ROOT / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            takes_options = isinstance(node, ast.FunctionDef) and any(arg.arg == "options" for arg in node.args.args)
            if isinstance(node, ast.FunctionDef) and takes_options:
                first = node.body[1] if isinstance(node.body[0], ast.Expr) and len(node.body) > 1 else node.body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                assert lines <= 15, f"{path.name}: {node.name} has {lines} lines"
