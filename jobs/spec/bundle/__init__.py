"""Bundles of user code: what an upload may hold, and what can be known of it without running a line."""
