"""Workflows: creation of steps, dependencies, progress, cancelling."""
