"""From draws to a posterior: tables, diagnostics, warnings in words, files that ArviZ opens, and pictures.

What runs here needs draws by site and chain, and no sampler: a guide's draws go the same way. Draws are read from the files of
blocks that a run has put out, a piece at a time, so that a posterior may be larger than memory.
"""

from jobs.programs.posterior.blocks import HIDDEN, STATISTIC, apart
from jobs.programs.posterior.live import Watch, worst
from jobs.programs.posterior.replay import Replay
from jobs.programs.posterior.result import NETCDF, result
from jobs.programs.posterior.table import elements, summary

__all__ = ["HIDDEN", "NETCDF", "STATISTIC", "Replay", "Watch", "apart", "elements", "result", "summary", "worst"]
