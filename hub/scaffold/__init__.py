"""Writes the beginning of a plugin package: a subscriber with settings, tests, an entry point and a README. See README.md."""

from .subscriber import HANDLERS, KINDS, Kind, ScaffoldError, SubscriberPackage, write_package

__all__ = ["HANDLERS", "KINDS", "Kind", "ScaffoldError", "SubscriberPackage", "write_package"]
