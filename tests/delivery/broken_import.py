"""A plugin whose import raises."""

raise RuntimeError("this module is broken")
