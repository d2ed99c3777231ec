"""Definitions: what a handler is registered as, announced by the workers that have it and kept by every engine partition.

A definition is named by namespace, name and version; `definition_id` gives the three as one text.
"""

from functools import lru_cache
from typing import Annotated
from urllib.parse import quote, unquote

from .fields import about
from .tasks import TaskOptions

#: Ids of definitions that are kept once they are encoded: workers repeat their definitions to every engine partition.
IDS_KEPT = 4_096

#: The version of a handler that was registered without one.
FIRST_VERSION = "1"

#: In the id of a definition: every namespace.
EVERY_NAMESPACE = "*"

Namespace = Annotated[
    str | None, about("Namespace whose tasks it is for, 1 to 255 bytes; absent: every namespace without a definition of its own.")
]
Name = Annotated[str, about("Name of the tasks that it is for, 1 to 255 bytes.", "charge")]
Version = Annotated[str, about("Its version, 1 to 255 bytes; absent: 1.", "2")]
RequiredVersion = Annotated[str, about("Its version, 1 to 255 bytes.", "1")]
DefinitionId = Annotated[
    str, about("`<namespace>/<name>@<version>`, percent-encoded; `*` stands for every namespace.", "*/charge@2")
]


class Definition(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A handler as a worker registered it: which tasks it is for, and what holds for those that do not give their own."""

    name: Name
    version: Version = FIRST_VERSION
    namespace: Namespace = None

    @property
    def id(self) -> str:
        """See `definition_id`."""
        return definition_id(self.namespace, self.name, self.version)


@lru_cache(IDS_KEPT)
def definition_id(namespace: str | None, name: str, version: str) -> str:
    """`<namespace>/<name>@<version>`, each part percent-encoded (RFC 3986, unreserved characters stay); `*` for None."""
    place = EVERY_NAMESPACE if namespace is None else quote(namespace, safe="")
    return f"{place}/{quote(name, safe='')}@{quote(version, safe='')}"


def parts_of_definition(identifier: str) -> tuple[str | None, str, str]:
    """Namespace, name and version of a `definition_id`. Raises ValueError where it is none."""
    place, slash, rest = identifier.partition("/")
    name, at, version = rest.partition("@")
    if not (place and slash and name and at and version):
        raise ValueError(f"{identifier!r} is not <namespace>/<name>@<version>")
    return None if place == EVERY_NAMESPACE else unquote(place), unquote(name), unquote(version)
