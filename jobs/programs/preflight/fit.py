"""The same look as a preflight's, taken by a real attempt: what cannot fit fails before step 0, with what would."""

from __future__ import annotations

from jobs.errors import UserFault
from jobs.preflight import Findings, Verdict, refusal
from jobs.programs.preflight.candidates import Retrial
from jobs.programs.preflight.compiling import figures, verdict
from jobs.programs.preflight.look import Subject
from jobs.programs.preflight.placing import state_bytes
from jobs.programs.program import Program


def require_state_fits(subject: Subject, program: Program) -> None:
    """Weigh the state by its shapes, before any of it is allocated.

    Raises:
        UserFault: `would_oom`.
    """
    need = state_bytes(program)
    if subject.limit is not None and need > subject.limit.bytes:
        words = subject.limit.words
        _refuse(subject, Verdict(code="would_oom", need_bytes=need, limit_bytes=subject.limit.bytes, limit=words))


def require_step_fits(subject: Subject, program: Program) -> None:
    """Weigh the compiled step before it runs.

    Raises:
        UserFault: `would_oom`.
    """
    if subject.limit is None or program.executable is None:
        return
    found = verdict(figures(program.executable, 0.0), subject.limit)
    if found.code == "would_oom":
        _refuse(subject, found)


def _refuse(subject: Subject, found: Verdict) -> None:
    if subject.limit is None:
        return
    tried = Retrial(subject.spec, subject.axes, subject.build, subject.limit).ranked(found.need_bytes)
    told = refusal(Findings(verdict=found, suggestions=tried))
    if told is not None:
        raise UserFault("would_oom", told[1], told[0])
