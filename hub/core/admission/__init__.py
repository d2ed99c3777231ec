"""What becomes of a submission."""
