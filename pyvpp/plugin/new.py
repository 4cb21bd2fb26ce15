# SPDX-License-Identifier: Apache-2.0
"""`pyvpp plugin new NAME`: a small package with one node, its commands, tests and bench, that passes its tests at once.

The files are those in `template/`, with ${name}, ${package} and ${ident} replaced; a reader finds the plugin there.
"""

import keyword
import re
from pathlib import Path
from string import Template

from pyvpp.errors import OperatorError

TEMPLATES = Path(__file__).parent / "template"
FILES = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    "{package}/__init__.py": "init.py.in",
    "{package}/{ident}.py": "node.py.in",
    "{package}/cli.py": "cli.py.in",
    "{package}/bench.py": "bench.py.in",
    "tests/conftest.py": "conftest.py.in",
    "tests/test_{ident}.py": "test_node.py.in",
    "tests/test_path.py": "test_path.py.in",
}
LONGEST_NAME = 30  # `show runtime` cuts names of nodes there
RESERVED = {"cli", "bench", "nodes", "test"}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, directory: Path) -> Path:
    """Makes the project `pyvpp-NAME` below a directory and answers where it is. Raises OperatorError."""
    check_name(name)
    project = directory / f"pyvpp-{name}"
    ident = name.replace("-", "_")
    words = {"name": name, "ident": ident, "package": f"pyvpp_{ident}"}
    if project.exists():
        raise OperatorError(f"plugin new {name}: {project} exists already")
    try:
        for path, template in FILES.items():
            file = project / path.format(**words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template((TEMPLATES / template).read_text()).substitute(words))
        (project / words["package"] / "py.typed").touch()
    except OSError as error:
        raise OperatorError(f"plugin new {name}: {error.filename}: {error.strerror}") from None
    return project


def check_name(name: str) -> None:
    """Raises OperatorError for a name that cannot be a node's and a package's, or that is taken."""
    if not _NAME.fullmatch(name):
        guess = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")
        meant = f" (did you mean {guess}?)" if _NAME.fullmatch(guess) else " (expected such as ttl-guard)"
        raise OperatorError(f"plugin new {name}: a name is words of a-z and 0-9 with - between{meant}")
    if name.startswith("pyvpp-"):
        raise OperatorError(f"plugin new {name}: the package is called pyvpp-... anyway (expected {name[6:]})")
    if len(name) > LONGEST_NAME:
        raise OperatorError(f"plugin new {name}: {len(name)} letters (expected at most {LONGEST_NAME})")
    if keyword.iskeyword(name) or name in RESERVED:
        raise OperatorError(f"plugin new {name}: a word that Python or the package needs itself")
    from pyvpp.cli.assembly import command_tree
    from pyvpp.loader import load

    declared = load()
    if name in declared.nodes:
        raise OperatorError(f"plugin new {name}: there is a node of that name ({declared.nodes[name].module})")
    tree = command_tree(declared.packages)
    commands = [words for command in tree.commands for words in (command.name, *command.aliases)]
    for words in (f"set interface {name}", f"show interface {name}"):
        if any(command == words or command.startswith(words + " ") for command in commands):
            raise OperatorError(f"plugin new {name}: there is a command `{words}' already")
