"""The lifecycle of a definition, as one engine partition knows it. Its entity is `definition/<partition>/<id>`."""

from typing import Annotated

from .. import definitions as d
from ..fields import By, Reason, Worker, about
from .base import EventData


class DefinitionRegistered(EventData, kw_only=True):
    """A worker announced a handler that is new, or that other options hold for from now on."""

    definition: Annotated[d.Definition, about("The handler, and what it was registered with.")]
    worker: Worker


class DefinitionDeprecated(EventData, kw_only=True):
    """The version is no longer the default of its name while there is another; submissions that name it are still taken."""

    name: d.Name
    version: d.RequiredVersion
    namespace: d.Namespace = None
    reason: Reason = ""
    by: By = None
