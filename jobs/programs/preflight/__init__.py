"""A look at a job before any of it runs: shapes, memory, FLOPs, the compiled program, and the checklist."""
