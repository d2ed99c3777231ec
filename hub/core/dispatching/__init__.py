"""Assigns ready tasks to workers."""
