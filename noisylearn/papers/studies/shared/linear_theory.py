"""Mean-field theory of node perturbation in a linear network with one hidden layer.

Student y = W2 W1 x, teacher y* = A x + sigma_t zeta, x ~ N(0, I), loss 1/2 |y - y*|^2, one sample at a time, both
layers perturbed in the same pass. Order parameters: alpha = |W1|^2 / Lx and the error eps = |W2 W1 - A|^2 / (Lx Ly).
The theory is in a = alpha / Lh^(1/3) and c = eta Lh^(1/3) Lx Ly (1 + beta0).

Source:
    [STAB] section 4, equations 9 to 14.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar


@dataclass(frozen=True)
class LinearNetwork:
    """The student's size and first weights.

    Args:
        n_in: Lx.
        n_hidden: Lh.
        n_out: Ly.
        gain: multiplies the variance of the initial W1, 2 / (Lx + Lh).
    """

    n_in: int
    n_hidden: int
    n_out: int
    gain: float = 1.0

    @property
    def alpha0(self) -> float:
        """|W1|^2 / Lx at the start."""
        return self.gain * 2 * self.n_hidden / (self.n_in + self.n_hidden)

    @property
    def beta0(self) -> float:
        """|W2|^2 / Ly at the start."""
        return 2 * self.n_hidden / (self.n_hidden + self.n_out)

    @property
    def eps0(self) -> float:
        """Error at the start: alpha0 beta0 / Lh of the student's own product, 2 / (Lx + Ly) of the teacher."""
        return self.alpha0 * self.beta0 / self.n_hidden + 2 / (self.n_in + self.n_out)

    @property
    def a0(self) -> float:
        return self.alpha0 / math.cbrt(self.n_hidden)

    def coefficient(self, rate: float) -> float:
        """The theory's c at a rate.

        c = eta Lh^(1/3) Lx Ly (1 + beta0)
        """
        return rate * self._coefficient_per_rate

    @property
    def _coefficient_per_rate(self) -> float:
        return math.cbrt(self.n_hidden) * self.n_in * self.n_out * (1 + self.beta0)

    @property
    def critical_rate(self) -> float:
        """eta*, the rate above which the error turns up before it is zero.

        (eps0 - a0^3/3) c^3 + a0^2 c^2 - 4/3 = 0

        There is one positive root c, or two where a0^3 > 3 eps0; the larger of these has a0 beyond 2/c from the start.
        """
        roots = np.roots([self.eps0 - self.a0**3 / 3, self.a0**2, 0.0, -4 / 3])
        real = [float(root.real) for root in roots if abs(root.imag) < 1e-9 and root.real > 0]
        return min(real) / self._coefficient_per_rate

    def trajectory(self, rate: float, iterations: int, sigma_t: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """How weight norm and error go along the iterations.

        da = eta_h c (eps + sigma_t^2 / Lx),  deps = eta_h (-2 a eps + c a^2 (eps + sigma_t^2 / Lx)),
        eta_h = eta Lh^(1/3)

        Args:
            rate: eta.
            iterations: how many.
            sigma_t: standard deviation of the teacher's noise.

        Returns:
            a and eps at iterations 0, 1, ..., both (iterations + 1,).

        Source:
            [STAB] eq. 12.
        """
        rate_h, c, floor = rate * math.cbrt(self.n_hidden), self.coefficient(rate), sigma_t**2 / self.n_in
        a, eps = np.empty(iterations + 1), np.empty(iterations + 1)
        a[0], eps[0] = self.a0, self.eps0
        for t in range(iterations):
            noisy = eps[t] + floor
            a[t + 1] = min(a[t] + rate_h * c * noisy, 1e9)  # past this it has long diverged
            eps[t + 1] = min(eps[t] + rate_h * (c * a[t] ** 2 * noisy - 2 * a[t] * eps[t]), 1e9)
        return a, eps

    def lowest(self, rate: float, sigma_t: float) -> tuple[int, float]:
        """Iteration and value of the lowest error with teacher noise; after it the error rises for good.

        Source:
            [STAB] eq. 14.
        """
        length = self.n_in * self.n_out
        while True:
            eps = self.trajectory(rate, length, sigma_t)[1]
            if eps.argmin() < length:
                return int(eps.argmin()), float(eps.min())
            length *= 2

    def error(self, a: float, rate: float) -> float:
        """Error where the weight norm is a, without teacher noise.

        eps(a) = eps0 - (a^2 - a0^2) / c + (a^3 - a0^3) / 3
        """
        return self.eps0 - (a**2 - self.a0**2) / self.coefficient(rate) + (a**3 - self.a0**3) / 3

    def training_time(self, rate: float, target: float) -> float:
        """Iterations of NP to an error; inf where the error turns up before.

        T = Lx Ly (1 + beta0) / c  x  integral from a0 to a_target of da / (c eps(a))

        Source:
            [STAB] eq. 13.
        """
        c = self.coefficient(rate)
        turn = 2 / c
        if turn <= self.a0 or self.error(turn, rate) >= target:
            return math.inf
        a_target = brentq(lambda a: self.error(a, rate) - target, self.a0, turn)
        integral, _ = quad(lambda a: 1 / (c * self.error(a, rate)), self.a0, a_target)
        return self._coefficient_per_rate / math.cbrt(self.n_hidden) / c * integral

    def minimum_training_time(self, target: float) -> tuple[float, float]:
        """Fewest iterations of NP to an error, and the rate that takes them."""
        lowest, highest = self.critical_rate / 10, self.critical_rate * 3

        def log_time(log_rate: float) -> float:
            return math.log(min(self.training_time(math.exp(log_rate), target), 1e300))

        # a grid first: beyond the rates that reach the target the time is infinite, where no search finds its way back
        grid = np.linspace(math.log(lowest), math.log(highest), 60)
        best = int(np.argmin([log_time(point) for point in grid]))
        ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found = minimize_scalar(log_time, bounds=ends, method="bounded")
        return math.exp(found.fun), math.exp(found.x)

    def sgd_training_time(self, target: float) -> float:
        """Iterations of SGD to an error.

        T = Lx log(eps0 / eps_target)

        Source:
            [STAB] eq. 13.
        """
        return self.n_in * math.log(self.eps0 / target)


def regression_time(n_in: int, n_out: int, ratio: float) -> float:
    """Fewest iterations of NP without hidden layer to 1 / ratio of the first error.

    T = Lx Ly log(ratio); with Ly = 1 that of SGD.

    Source:
        [STAB] eq. 9.
    """
    return n_in * n_out * math.log(ratio)
