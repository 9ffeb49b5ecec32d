"""Writes `jobs/spec/catalog.json`: what a job may name, with its arguments, read out of the installed libraries.

`python -m jobs.programs.catalog --write` renews the file, `--check` tells whether it is what the libraries give. The service reads
the file alone, so it knows every optimizer and kernel without JAX.
"""
