"""Health pages of processes and of `hub up`."""
