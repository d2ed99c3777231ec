"""Workers: their reports, and the expiry of their leases."""
