"""[STAB] figure 3: with a noisy teacher node perturbation always becomes unstable; weight normalisation prevents it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noisylearn.ground.tree_file import Tree
from noisylearn.papers.harness.criteria import falling, rising, slope, turn, within
from noisylearn.papers.harness.measures import spread
from noisylearn.papers.harness.pictures import band, panels
from noisylearn.papers.harness.study import Criterion, Figure, Found, Judgement, Piece, Study
from noisylearn.papers.studies.shared.linear_student import Student, student_piece
from noisylearn.papers.studies.shared.linear_theory import LinearNetwork

SIGMA_T = 0.32
REFERENCE = (100, 1000, 10), 2.29e-3, 6200  # lowest error and its iteration at eta*, an independent simulation, 3 seeds
BLOCKS, WINDOW = 40, 4  # of a run: blocks whose means show where it is lowest, and blocks in a row that show a rise
NEAR, EXPONENT = 0.5, 1.0  # tolerances: of the time of the lowest error at eta* and below, of its exponent above


@dataclass(frozen=True)
class Run:
    """One line of the figure.

    Args:
        n_hidden: Lh.
        multiple: rate over eta*; of "sgd" over its best rate.
        rule: "np" or "sgd".
        normalise: whether the norm of every neuron's incoming weights is held.
        seeds: how many; None for all.
    """

    n_hidden: int
    multiple: float
    rule: str = "np"
    normalise: bool = False
    seeds: int | None = None

    @property
    def name(self) -> str:
        rate = f"{self.multiple:g} eta*" if self.rule == "np" else f"{self.multiple:g} of the best rate"
        normalised = ", normalised" if self.normalise else ""
        return f"{self.rule.upper()}, Lh {self.n_hidden}, {rate}{normalised}"


@dataclass(frozen=True)
class Size:
    """Network and lines of the figure.

    Args:
        n_in: Lx.
        n_hidden: Lh where rates are compared.
        n_out: Ly.
        multiples: rates over eta* at n_hidden.
        widths: Lh with and without weight normalisation, at eta*.
        width_seeds: how many for these; None for all.
        rise: factor of the last tenth of a run over the lowest tenth, above which the error turns up; a tenth
            fluctuates by some per cent.
        is_test: too small to judge more than whether the error turns up.
    """

    n_in: int
    n_hidden: int
    n_out: int
    multiples: Sequence[float]
    widths: Sequence[int]
    width_seeds: int | None = None
    rise: float = 1.2
    is_test: bool = False

    def rates(self) -> list[Run]:
        return [Run(self.n_hidden, multiple) for multiple in self.multiples]

    def normalised(self) -> list[Run]:
        return [Run(width, 1.0, normalise=True, seeds=self.width_seeds) for width in self.widths]

    def plain(self) -> list[Run]:
        """The widths without normalisation, but for runs that are among the rates already."""
        runs = [Run(width, 1.0, seeds=self.width_seeds) for width in self.widths]
        return [run for run in runs if run.name not in {one.name for one in self.rates()}]

    def sgd(self) -> Run:
        return Run(self.n_hidden, 0.5, "sgd")

    def runs(self) -> list[Run]:
        return [*self.rates(), *self.plain(), *self.normalised(), self.sgd()]

    def network(self, run: Run) -> LinearNetwork:
        return LinearNetwork(self.n_in, run.n_hidden, self.n_out)

    def rate(self, run: Run) -> float:
        network = self.network(run)
        best_sgd = 1 / (self.n_in * (network.alpha0 + network.beta0))
        return run.multiple * (network.critical_rate if run.rule == "np" else best_sgd)

    def lowest(self, run: Run) -> tuple[int, float]:
        """Iteration and value of the lowest error in the theory."""
        return self.network(run).lowest(self.rate(run), SIGMA_T)

    def iterations(self, run: Run) -> int:
        """2.5 times the theory's time of the lowest error at that rate, and Lx Ly more; SGD as long as NP at eta*."""
        like = run if run.rule == "np" else Run(run.n_hidden, 1.0)
        return 10 * math.ceil((2.5 * self.lowest(like)[0] + self.n_in * self.n_out) / 10)


def pieces(size: Size, seeds: Sequence[int]) -> list[Piece]:
    return [_piece(size, run, seeds[: run.seeds]) for run in size.runs()]


def _piece(size: Size, run: Run, seeds: Sequence[int]) -> Piece:
    iterations = size.iterations(run)
    student = Student(
        size.n_in, run.n_hidden, size.n_out, run.rule, size.rate(run), iterations, sigma_t=SIGMA_T,
        normalise=run.normalise,
    )  # fmt: skip
    return student_piece(run.name, student, seeds, iterations * (1 + run.n_hidden / 2500) * len(seeds))


def blocks(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Middle iteration (blocks,) and error (blocks,), mean over the seeds, of the blocks of a run."""
    parts = np.array_split(np.arange(len(tree["iterations"])), min(BLOCKS, len(tree["iterations"])))
    eps = tree["eps"].mean(0)
    return np.array([tree["iterations"][p].mean() for p in parts]), np.array([eps[p].mean() for p in parts])


def judge(size: Size, found: Found) -> Judgement:
    lowest = {run: _lowest(found[run.name]) for run in size.runs()}
    figures = []
    for run, (when, error) in lowest.items():
        figures.append(Figure(f"{run.name}: lowest error", error))
        if run.rule == "np" and not run.normalise:
            figures.append(Figure(f"{run.name}: its iteration (published: theory)", when, size.lowest(run)[0]))
    plain = [*size.rates(), *size.plain()]
    criteria = [_rise(size, run, found, turns=True) for run in plain]
    criteria += [_rise(size, run, found, turns=False) for run in (*size.normalised(), size.sgd())]
    if not size.is_test:
        criteria += [_cost(size, found), *_times(size, lowest)]
    at_critical = Run(size.n_hidden, 1.0)
    if (size.n_in, size.n_hidden, size.n_out) == REFERENCE[0] and at_critical in lowest:
        criteria.append(_as_reference(at_critical, found[at_critical.name], lowest[at_critical]))
    return Judgement(figures, criteria)


def _lowest(tree: Tree) -> tuple[float, float]:
    when, eps = blocks(tree)
    return float(when[eps.argmin()]), float(eps.min())


def _rise(size: Size, run: Run, found: Found, turns: bool) -> Criterion:
    _, eps = blocks(found[run.name])
    tenths = np.convolve(eps, np.ones(WINDOW) / WINDOW, "valid")
    return turn(run.name, tenths, size.rise, turns, f" (by a factor of {size.rise:g})")


def _cost(size: Size, found: Found) -> Criterion:
    """That the error at the end with normalisation grows with the width."""
    ends = [float(blocks(found[run.name])[1][-WINDOW:].mean()) for run in size.normalised()]
    statement = f"normalised: the error at the end grows with Lh ({', '.join(map(str, size.widths))})"
    return rising(statement, ends)


def _times(size: Size, lowest: dict[Run, tuple[float, float]]) -> list[Criterion]:
    runs = size.rates()
    times = [lowest[run][0] for run in runs]
    ratios = [lowest[run][0] / size.lowest(run)[0] for run in runs if run.multiple <= 1]
    above = [run for run in runs if run.multiple >= 1]
    exponent, _ = slope([run.multiple for run in above], [lowest[run][0] for run in above])
    with_theory = f"up to eta* it is lowest when the theory says, within {NEAR:.0%}"
    as_power = f"from eta* on that time goes as the rate to the power -3, within {EXPONENT:g}"
    return [
        falling("the error is lowest the sooner, the higher the rate", times, "{:.0f}", "iterations {}"),
        within(with_theory, ratios, 1, NEAR, "{:.2f}", "{} times that"),
        within(as_power, exponent, -3, EXPONENT, "{:.2f}"),
    ]


def _as_reference(run: Run, tree: Tree, lowest: tuple[float, float]) -> Criterion:
    """The minimum is flat: its time is known to a quarter at best, its value to the spread of the seeds and 10 %."""
    _, error, when = REFERENCE
    values = tree["eps"].min(1)
    margin = 3 * (spread(values) or 0.0) * math.sqrt(2 / len(values)) + 0.1 * error
    holds = abs(lowest[1] - error) <= margin and abs(lowest[0] / when - 1) <= 0.25
    statement = f"{run.name}: lowest error and its time as in an independent simulation ({error:.3g} at {when})"
    return Criterion(statement, f"{lowest[1]:.3g} at {lowest[0]:.0f}", holds)


def plot(size: Size, found: Found, file: Path) -> None:
    titles = "Error", "Time of the lowest error", "Weight normalisation at eta*"
    with panels(file, [f"{title}; Lx {size.n_in}, Ly {size.n_out}" for title in titles]) as axes:
        for i, run in enumerate(size.rates()):
            tree = found[run.name]
            band(axes[0], tree["eps"], run.name, tree["iterations"], color=f"C{i}")
        sgd = found[size.sgd().name]
        band(axes[0], sgd["eps"], size.sgd().name, sgd["iterations"], color="tab:grey")
        runs = size.rates()
        axes[1].plot(size.multiples, [_lowest(found[run.name])[0] for run in runs], "ko", label="NP")
        axes[1].plot(
            size.multiples, [size.lowest(run)[0] for run in runs], "k:", label="theory (eq. 12, noisy teacher)"
        )
        for i, run in enumerate(size.normalised()):
            other = found[Run(run.n_hidden, 1.0).name]
            band(
                axes[2],
                found[run.name]["eps"],
                f"Lh {run.n_hidden}, normalised",
                found[run.name]["iterations"],
                color=f"C{i}",
            )
            axes[2].plot(other["iterations"], other["eps"].mean(0), ":", color=f"C{i}", label=f"Lh {run.n_hidden}")
        top = 10 * size.network(runs[0]).eps0
        for ax in (axes[0], axes[2]):
            ax.set(xlabel="iteration", ylabel="error", yscale="log", ylim=(top / 1e4, top))
        axes[1].set(xlabel="rate / eta*", ylabel="iteration", xscale="log", yscale="log")


STUDIES = (
    Study(
        name="stab-fig3",
        paper="stab",
        source="figure 3 (A to D), equation 14",
        title="Instability of NP with a noisy teacher, and weight normalisation",
        published=(
            "Whatever the rate, the error of NP turns up, the sooner the higher the rate (as its power -3 above eta*); "
            "that of SGD does not. With every neuron's weight norm held, NP converges, to an error that is larger the "
            "wider the hidden layer."
        ),
        setting={
            "smoke": "Lx 20, Lh 200, Ly 5, teacher's noise of standard deviation 0.32: seconds, as a test.",
            "small": (
                "Lx 100, Ly 10 as in the paper, Lh 1000 (10,000 in the paper); teacher's noise of variance 0.102 (0.1 "
                "in the paper); the widths of the third picture with one seed."
            ),
            "paper": "Lx 100, Lh 10,000, Ly 10, teacher's noise of variance 0.102 (0.1 in the paper), ten seeds.",
        },
        sizes={
            "smoke": Size(20, 200, 5, (1.0, 2.0), (200,), rise=2.0, is_test=True),
            "small": Size(100, 1000, 10, (0.7, 1.0, 1.4, 2.0), (100, 1000, 5000), width_seeds=1),
            "paper": Size(100, 10_000, 10, (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0), (1000, 10_000, 100_000)),
        },
        seeds={"smoke": 1, "small": 2, "paper": 10},
        pieces=pieces,
        judge=judge,
        plot=plot,
        remarks="At a width of 5,000 the normalised network was still improving when its run ended, so these runs are "
        "too short for the order over widths. The theory's own exponent between these rates is about -4.7.",
    ),
)  # fmt: skip
