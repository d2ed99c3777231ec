"""The package of a new subscriber: names derived from its name, files made from templates."""

import keyword
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple, get_args

from schemas import CATALOGUE
from subscribers import type_matches

from ..errors import ConfigurationError

Kind = Literal["alert", "batch", "metrics", "sink"]
KINDS: tuple[str, ...] = get_args(Kind)

HANDLERS = {"alert": "notify", "batch": "store", "metrics": "count", "sink": "keep"}
"""The method that handles events, by kind."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "readme.md.txt",
    "hub.toml": "hub.toml.txt",
    "{module}/__init__.py": "{kind}.py.txt",
    "{module}/py.typed": "",
    "tests/test_{module}.py": "test_{kind}.py.txt",
    "tests/test_contract.py": "test_contract.py.txt",
}
"""The files of a package and their templates; an empty one has none."""

_SETTINGS = {
    "alert": 'url = "https://example.com/hooks/1234"',
    "batch": 'path = "{name}.jsonl"',
    "metrics": "",
    "sink": 'path = "{name}.jsonl"',
}
_TEST_SETTINGS = {
    "alert": '{{"url": "http://127.0.0.1:9/"}}',
    "batch": '{{"path": "{name}.jsonl"}}',
    "metrics": "{{}}",
    "sink": '{{"path": "{name}.jsonl"}}',
}


class ScaffoldError(ConfigurationError):
    """The package cannot be written with these arguments."""


class SubscriberPackage(NamedTuple):
    """The arguments of `hub new subscriber`. `events`: event types; `*` matches any text."""

    name: str
    events: tuple[str, ...]
    kind: Kind

    @classmethod
    def of(cls, name: str, events: Sequence[str], kind: str) -> "SubscriberPackage":
        """Check the arguments. Raises ScaffoldError, which names the argument."""
        if _NAME.fullmatch(name) is None or keyword.iskeyword(name.replace("-", "_")):
            raise ScaffoldError(
                f"NAME: {name!r} must be lower-case letters, digits and '-', beginning with a letter, at most 50."
            )
        if kind not in KINDS:
            raise ScaffoldError(f"--kind: {kind!r} is not one of {', '.join(KINDS)}.")
        for one in events:
            if not _matching(one):
                raise ScaffoldError(f"--events: {one!r} matches no event type of this hub; see `hub events list`.")
        if not events:
            raise ScaffoldError("--events: must name at least one event type.")
        return cls(name, tuple(events), kind)  # type: ignore[arg-type]  # checked above

    @property
    def module(self) -> str:
        """The name of its Python package."""
        return f"taskhub_{self.name.replace('-', '_')}"

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return "".join(part.capitalize() for part in self.name.split("-")) + "Subscriber"

    @property
    def handled(self) -> tuple[str, ...]:
        """The event types that it handles."""
        return tuple(one for one in CATALOGUE if any(one in _matching(pattern) for pattern in self.events))


def _matching(pattern: str) -> frozenset[str]:
    return frozenset(one for one in CATALOGUE if type_matches(pattern, one))


def write_package(package: SubscriberPackage, directory: Path) -> list[Path]:
    """Write the files of the package into `directory`, which is created. Returns their paths. Raises ScaffoldError if one of them
    exists; then nothing is written."""
    paths = {directory / _filled(path, package): template for path, template in _FILES.items()}
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        raise ScaffoldError(f"{existing[0]} exists already; nothing was written. Choose another --directory.")
    for path, template in paths.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_text(_filled(template, package), package) if template else "")
        except OSError as error:
            raise ScaffoldError(f"{path} cannot be written: {error.strerror or error}.") from error
    return list(paths)


def _filled(path: str, package: SubscriberPackage) -> str:
    return path.format(module=package.module, kind=package.kind)


def _text(template: str, package: SubscriberPackage) -> str:
    source = files(__package__).joinpath("templates", template).read_text()
    return Template(source).substitute(
        name=package.name,
        module=package.module,
        metric=package.name.replace("-", "_"),
        cls=package.class_name,
        kind=package.kind,
        events=", ".join(f'"{one}"' for one in package.events),
        event=package.handled[0],
        settings=_SETTINGS[package.kind].format(name=package.name),
        test_settings=_TEST_SETTINGS[package.kind].format(name=package.name),
        table="\n".join(f"| `{one}` | {CATALOGUE[one].when} |" for one in package.handled),
    )
