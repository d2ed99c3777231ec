"""Which ready task goes to which worker."""
