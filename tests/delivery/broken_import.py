"""A plug-in whose import raises."""

raise RuntimeError("this module is broken")
