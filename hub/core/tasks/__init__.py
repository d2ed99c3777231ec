"""Single tasks: creation, attempts, end."""
