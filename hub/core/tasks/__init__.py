"""One task: its creation, its attempts, its end."""
