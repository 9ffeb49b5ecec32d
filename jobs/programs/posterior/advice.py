"""What is wrong with a posterior, in words, and what to do about it: the warnings that users of Stan know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Warning_ = dict[str, str]

MOST_R_HAT = 1.01
LEAST_ESS_OF_CHAIN = 100
LEAST_BFMI = 0.3
MOST_NAMED = 5
MORE_DRAWS = "Draw more (num_samples), and adapt longer (num_warmup) if the chains were still on their way."


@dataclass
class Worst:
    """The elements that miss a bound, as rows of the table come by.

    Attributes:
        most_r_hat, least_bulk, least_tail: the worst of all, None as long as none is known.
    """

    chains: int
    total: int = 0
    mixed_badly: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    low_bulk: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    low_tail: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    not_finite: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    most_r_hat: float | None = None
    least_bulk: float | None = None
    least_tail: float | None = None

    def take(self, name: str, row: Mapping[str, float | None]) -> None:
        """Look at a row."""
        self.total += 1
        enough = LEAST_ESS_OF_CHAIN * self.chains
        if row["mean"] is None:
            self._note("not_finite", 0.0, name)
            return
        self.most_r_hat = _extreme(max, self.most_r_hat, row["r_hat"])
        self.least_bulk = _extreme(min, self.least_bulk, row["ess_bulk"])
        self.least_tail = _extreme(min, self.least_tail, row["ess_tail"])
        if (row["r_hat"] or 1.0) > MOST_R_HAT:
            self._note("mixed_badly", -(row["r_hat"] or 0.0), name)
        for kind, size in (("low_bulk", row["ess_bulk"]), ("low_tail", row["ess_tail"])):
            if size is not None and size < enough:
                self._note(kind, size, name)

    def _note(self, kind: str, badness: float, name: str) -> None:
        """Remember the worst few of a kind, and how many there are."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept: list[tuple[float, str]] = getattr(self, kind)
        kept.append((badness, name))
        kept.sort()
        del kept[MOST_NAMED:]


def warnings(worst: Worst, diagnostics: Mapping[str, Any], transitions: int, spec: Mapping[str, Any]) -> list[Warning_]:
    """Everything that speaks against a posterior: `code`, `message` and `hint` of each, the gravest first.

    Args:
        worst: what the table's rows were like.
        diagnostics: what the kernel's statistics told.
        transitions: how many draws there are in all chains.
        spec: the resolved spec.
    """
    return [*_of_rows_not_finite(worst), *_of_kernel(diagnostics, transitions, spec), *_of_rows(worst)]


def of_comparison(loo: Mapping[str, Mapping[str, Any]]) -> Iterator[Warning_]:
    """What speaks against leave-one-out by importance sampling."""
    for site, told in loo.items():
        if told["pareto_k_above"]:
            yield _warning(
                "high_pareto_k",
                f"Pareto k of {told['pareto_k_above']} of {told['observations']} observations of {site} is above "
                f"{told['pareto_k_bound']:.2g} ({', '.join(told['worst'])}): without any one of them the posterior would be "
                "another, and its LOO is not to be trusted.",
                "Look at these observations: the model may not fit them, or have nearly a parameter for each. WAIC fails for them "
                "too; refit without each of them, or use K-fold cross-validation.",
            )


def _of_kernel(found: Mapping[str, Any], transitions: int, spec: Mapping[str, Any]) -> Iterator[Warning_]:
    kernel: Mapping[str, Any] = spec.get("kernel") or {}
    if found.get("divergences"):
        share = 100 * found["divergences"] / max(1, transitions)
        accept = kernel.get("target_accept_prob")
        said = f" above {accept}, up to 0.99," if accept is not None else ""
        yield _warning(
            "divergences",
            f"{found['divergences']} of {transitions} transitions diverged ({share:.2g} %): where they do, the posterior is bent "
            "too sharply for the step size, and those places are missing from the draws.",
            f"Raise kernel.target_accept_prob{said} or write the model in another way, for example non-centred. A few are no "
            "cause for calm: look where they lie in the pair plot.",
        )
    if found.get("max_tree_depth_reached"):
        yield _warning(
            "max_tree_depth",
            f"{found['max_tree_depth_reached']} of {transitions} transitions came to the greatest tree depth, "
            f"{kernel.get('max_tree_depth')}.",
            "The draws are valid but dearly paid for. Raise kernel.max_tree_depth, or better bring the parameters to similar "
            "scales, or set kernel.dense_mass where they are strongly correlated.",
        )
    low = [(chain, value) for chain, value in enumerate(found.get("bfmi") or ()) if value is not None and value < LEAST_BFMI]
    if low:
        chains = ", ".join(f"{chain} ({value:.2g})" for chain, value in low[:MOST_NAMED])
        yield _warning(
            "low_bfmi",
            f"BFMI is below {LEAST_BFMI} in {len(low)} of {len(found['bfmi'])} chains: {chains}. They may not have reached the "
            "tails of the posterior.",
            "Write the model in another way: a heavy-tailed or hierarchical parameter is often the cause. Longer warm-up helps at "
            "times.",
        )


def _of_rows_not_finite(worst: Worst) -> Iterator[Warning_]:
    if worst.not_finite:
        yield _warning(
            "not_finite",
            f"{_those(worst, 'not_finite')} with draws that are not finite; their rows are empty.",
            "Look for a division by zero, a logarithm of what is not positive or an overflow in the model.",
        )


def _of_rows(worst: Worst) -> Iterator[Warning_]:
    enough = LEAST_ESS_OF_CHAIN * worst.chains
    if worst.mixed_badly:
        yield _warning(
            "r_hat",
            f"R-hat is above {MOST_R_HAT} for {_those(worst, 'mixed_badly')}; the largest is {worst.most_r_hat:.3g}. "
            "The chains do not agree: means and intervals cannot be trusted.",
            f"{MORE_DRAWS} If it stays, the posterior may have several modes, or parameters that the data cannot tell apart.",
        )
    if worst.low_bulk:
        yield _warning(
            "low_ess_bulk",
            f"Bulk ESS is below {enough} (100 a chain) for {_those(worst, 'low_bulk')}; the least is {worst.least_bulk:.3g}. "
            "Means and medians are uncertain.",
            MORE_DRAWS,
        )
    if worst.low_tail:
        yield _warning(
            "low_ess_tail",
            f"Tail ESS is below {enough} (100 a chain) for {_those(worst, 'low_tail')}; the least is {worst.least_tail:.3g}. "
            "Variances and the ends of intervals are uncertain.",
            MORE_DRAWS,
        )


def _those(worst: Worst, kind: str) -> str:
    names = [name for _, name in getattr(worst, kind)]
    count = worst.counts[kind]
    return f"{count} of {worst.total} quantities ({', '.join(names)}{', …' if count > len(names) else ''})"


def _warning(code: str, message: str, hint: str) -> Warning_:
    return {"code": code, "message": message, "hint": hint}


def _extreme(choose: Any, known: float | None, value: float | None) -> float | None:
    return known if value is None else value if known is None else choose(known, value)
