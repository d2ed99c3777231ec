"""Graphs of tasks: their plan, the creation of their steps, dependencies, progress."""
