"""What time causes."""
