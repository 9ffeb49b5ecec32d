"""What the compiler makes of a step: memory, FLOPs and collectives; and whether that fits."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from jobs.preflight import Compiled, Verdict
from jobs.programs.program import Program

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast|ragged-all-to-all)(?:-start)?\("
)
"""An instruction of a compiled program, told from a mention of its name by the bracket of its arguments."""


@dataclass(frozen=True)
class Limit:
    """The memory that one device can give: bytes, and in words whose they are."""

    bytes: int
    words: str


def compile_step(program: Program) -> tuple[Compiled, Any]:
    """Lower and compile a program's step for its mesh; gives the figures and the executable. Allocates nothing on the devices."""
    began = time.perf_counter()
    executable = program.lower(program.abstract()).compile()
    return figures(executable, time.perf_counter() - began), executable


def figures(executable: Any, seconds: float) -> Compiled:
    """The figures of a compiled step, of one device."""
    memory = executable.memory_analysis()
    return Compiled(
        seconds=round(seconds, 3),
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        flops=_flops(executable),
        collectives=collectives(executable.as_text() or ""),
    )


def collectives(text: str) -> dict[str, int]:
    """How many collectives of each kind stand in the text of a compiled program."""
    return dict(sorted(Counter(match[1] for match in COLLECTIVE.finditer(text)).items()))


def needs(compiled: Compiled) -> int:
    """Bytes of a device while a step runs: arguments, temporaries, and outputs that do not lie where donated arguments were."""
    return compiled.argument_bytes + compiled.temp_bytes + max(0, compiled.output_bytes - compiled.alias_bytes)


def verdict(compiled: Compiled, limit: Limit) -> Verdict:
    """Whether the step fits."""
    need = needs(compiled)
    code = "would_oom" if need > limit.bytes else "fits"
    return Verdict(code=code, need_bytes=need, limit_bytes=limit.bytes, limit=limit.words)


def _flops(executable: Any) -> float | None:
    cost: Any = executable.cost_analysis()
    found = (cost or {}).get("flops")
    return float(found) if found is not None and math.isfinite(found) and found >= 0 else None
