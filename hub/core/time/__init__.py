"""Timers and their effects."""
