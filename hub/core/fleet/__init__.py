"""What workers report of themselves, and what their silence means."""
