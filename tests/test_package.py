import ast
import configparser
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import srgan_keras
from srgan_keras.common import cli

ROOT = Path(__file__).parents[1]
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
DOCS = "\n".join(PAGES.values())
COMMANDS = sorted(set(re.findall(r"python -m ((?:data_prep|srgan_keras)\.\w+)", DOCS)))


def test_public_names_are_there():
    for name in srgan_keras.__all__:
        assert getattr(srgan_keras, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = srgan_keras.nothing


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_docs_have_the_options_it_names(command, capsys):
    with pytest.raises(SystemExit) as exit_code:
        importlib.import_module(command).main(["--help"])
    assert exit_code.value.code == 0
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    lines = re.findall(rf"python -m {re.escape(command)}[^`\n]*", DOCS.replace("\\\n", ""))
    used = {option for line in lines for option in re.findall(r"--[\w-]+", line)}
    assert used <= known


def test_the_docs_name_extras_that_there_are():
    named = re.findall(r'"\.\[([\w,]+)\]"', DOCS)
    assert {extra for names in named for extra in names.split(",")} <= set(
        read_setup()["options.extras_require"]
    )


def read_setup():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def test_every_command_has_a_script(monkeypatch):
    setup = read_setup()
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    scripts = dict(line.split(" = ") for line in lines if line)
    started = []
    monkeypatch.setattr(cli, "start", started.append)
    for script, function in scripts.items():
        assert function == "srgan_keras.common.cli:script"
        monkeypatch.setattr(sys, "argv", [f"/somewhere/bin/{script}"])
        cli.script()
        assert cli.Parser(prog="python -m x").prog == script
    assert set(started) == set(COMMANDS) and len(started) == len(COMMANDS)


def test_the_docs_name_every_recipe_and_existing_files():
    from srgan_keras.systems import recipes

    assert all(f"`{name}`" in DOCS for name in recipes())
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), (page, target)


SOURCES = sorted([*(ROOT / "srgan_keras").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")])
#: From the ground up: a module imports of these floors only those below its own, or its own.
FLOORS = (
    "common", "data_prep", "parts", "data", "evaluation", "recipe", "systems", "run", "inference",
    "training", "study", "commands",
)  # fmt: skip


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module):
    """The floor that a module belongs to; None for the package itself."""
    parts = module.split(".")
    if parts[0] == "data_prep":
        return "data_prep"
    if len(parts) == 1:
        return None
    return parts[1] if parts[1] in FLOORS else "commands"


def imports_of(path):
    """The modules of this project that a module imports, anywhere in it."""
    names = {module_name(source) for source in SOURCES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in whole}
    return found & names


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_down_the_floors(path):
    """And nobody imports a command."""
    own = floor(module_name(path))
    for name in imports_of(path):
        other = floor(name)
        if own is None or other is None:
            continue
        assert other != "commands", name
        assert FLOORS.index(other) <= FLOORS.index(own), name
        if own == "data_prep":
            assert other in ("common", "data_prep")


def test_no_import_circle():
    graph = {module_name(path): imports_of(path) for path in SOURCES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_architecture_is_what_is_on_disk():
    block = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    named = set(re.findall(r"\b(\w+)\.py\b", block))
    there = {path.stem for path in SOURCES if path.stem != "__init__"}
    assert named == there


def test_no_function_is_longer_than_60_lines():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_common_loads_without_keras():
    """Pixels aside. (That training loads without TensorFlow is in the tests of JAX.)"""
    program = """
import sys
for name in ("cli", "errors", "files", "pictures", "settings"):
    __import__(f"srgan_keras.common.{name}")
assert "keras" not in sys.modules
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
