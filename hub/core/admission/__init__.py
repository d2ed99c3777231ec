"""Admission of submissions."""
