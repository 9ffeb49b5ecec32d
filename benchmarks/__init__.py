"""Measurements of this project beside a peer, in one run. `python -m benchmarks [NAME …]` prints the tables."""
