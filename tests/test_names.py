"""Every name of a module is given once: where files are merged, one constant must not replace another unseen."""

import ast
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest


def assigned(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module gives."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (one.id for one in parts if isinstance(one, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


@pytest.mark.parametrize("package", ["bleedmap", "bleedmap_thesis"])
def test_no_module_gives_a_name_twice(package: str) -> None:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    modules = sorted(Path(found.origin).parent.rglob("*.py"))
    assert len(modules) > 10
    twice = {}
    for module in modules:
        names = Counter(name for one in ast.parse(module.read_text("utf-8")).body for name in assigned(one))
        if again := [name for name, count in names.items() if count > 1]:
            twice[str(module)] = again
    assert not twice
