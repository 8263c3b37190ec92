"""The rules of the house as tests: imports point down, no cycles, the runtime knows nothing of setup, rules have no hands."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Low to high. A module may import its own layer and those below it.
RUNTIME_LAYERS = [
    {
        *("errors", "posixos", "outcome", "secret", "shown", "address", "envelope", "config", "authconf", "aliases", "history"),
        *("keyrings", "frames", "request", "posting", "machineid"),
    },
    {"policy", "smtp", "message"},
    {"system"},
    {"delivery"},
    {"cmd"},
]
NOT_IN_RUNTIME = {"dma_setup", "yaml", "jinja2", "questionary", "rich", "prompt_toolkit"}
PURE = ("policy", "smtp", "message")
HANDS = {"socket", "_socket", "subprocess", "asyncio", "ssl", "syslog", "fcntl", "select", "threading", "shutil", "tempfile"}
SETUP_MAY_USE = {
    "dma_runtime", "config", "authconf", "aliases", "errors", "address", "secret", "outcome", "shown", "keyrings", "history",
    "machineid", "envelope", "policy", "system", "delivery", "message",
}  # fmt: skip


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path, ast.parse(path.read_text())


def only_for_types(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree, *, at_run_time=False, top_level=False):
    """Names of imported modules; with `at_run_time` those for type checkers are left out."""
    found = []

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if at_run_time and only_for_types(child):
                continue
            if top_level and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.Import):
                found.extend(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                assert child.level == 0, "imports are absolute"
                found.append(child.module)
                found.extend(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(tree)
    return found


def layer(name):
    parts = name.split(".")
    if len(parts) < 2 or parts[0] != "dma_runtime":
        return None
    for index, rooms in enumerate(RUNTIME_LAYERS):
        if parts[1] in rooms:
            return index
    return None


def own(names, known):
    return {name for name in names if name in known}


RUNTIME = list(modules("dma_runtime"))
SETUP = list(modules("dma_setup"))
KNOWN = {name for name, _, _ in RUNTIME + SETUP}


@pytest.mark.parametrize(("name", "tree"), [(n, t) for n, _, t in RUNTIME], ids=[n for n, _, _ in RUNTIME])
def test_runtime_imports_point_down(name, tree):
    mine = layer(name)
    assert mine is not None or name in ("dma_runtime", "dma_runtime.keyring_backend"), f"{name} is in no layer"
    for target in own(imports(tree), KNOWN):
        above = layer(target) is not None and mine is not None and layer(target) > mine
        assert not above, f"{name} imports {target}, which lies above it"


@pytest.mark.parametrize(("name", "tree"), [(n, t) for n, _, t in RUNTIME], ids=[n for n, _, _ in RUNTIME])
def test_runtime_knows_nothing_of_setup(name, tree):
    assert not {target.split(".")[0] for target in imports(tree)} & NOT_IN_RUNTIME


@pytest.mark.parametrize(
    ("name", "tree"),
    [(n, t) for n, _, t in RUNTIME if n.split(".")[1:2] and n.split(".")[1] in PURE],
    ids=[n for n, _, _ in RUNTIME if n.split(".")[1:2] and n.split(".")[1] in PURE],
)
def test_rules_have_no_hands(name, tree):
    assert not {target.split(".")[0] for target in imports(tree, at_run_time=True)} & HANDS


@pytest.mark.parametrize(("name", "tree"), [(n, t) for n, _, t in SETUP], ids=[n for n, _, _ in SETUP])
def test_setup_takes_from_the_runtime_only_what_is_meant(name, tree):
    for target in own(imports(tree), KNOWN):
        parts = target.split(".")
        if parts[0] == "dma_runtime" and len(parts) > 1:
            assert parts[1] in SETUP_MAY_USE, f"{name} imports {target}"


def cycle(graph):
    """The modules of one loop of imports, or nothing."""
    done = set()

    def visit(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


def test_no_cycles():
    graph = {name: own(imports(tree, at_run_time=True, top_level=True), KNOWN) - {name} for name, _, tree in RUNTIME + SETUP}
    assert not cycle(graph)


def test_a_cycle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("Message intake", "intake"), ("Envelope, recipients, aliases", "envelope"), ("Command line", "commandline"),
        ("Queue, retry, bounce", "queue"), ("SMTP client, TLS, AUTH", "smtp"),
        ("Configuration, secrets, local delivery", "config"),
    ],
)  # fmt: skip
def test_every_known_failure_has_a_test(section, name):
    """One a row at least, in the order of the page, in the file of its section."""
    page = (ROOT / "docs" / "known-failures.md").read_text()
    (rows,) = [part for part in page.split("\n## ") if part.startswith(section + "\n")]
    rows = [line for line in rows.splitlines() if line.startswith("| ") and not line.startswith("| symptom")]
    tree = ast.parse((ROOT / "tests" / f"test_known_failures_{name}.py").read_text())
    tests = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert len(tests) >= len(rows) > 0


def test_no_drawers():
    drawers = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
    assert not [name for name in KNOWN if name.split(".")[-1] in drawers]
