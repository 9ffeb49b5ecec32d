"""Probabilistic programs as JSON: read, checked against the data, and refused with a pointer into the expression; no JAX."""
