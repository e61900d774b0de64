"""The engine without workers: one job after the other, in this process."""

from collections.abc import Sequence
from functools import partial

from noisylearn.engines.jobs import Job, Outcome, Watch, carried_out


class Here:
    """Carries out jobs in this process, in their order."""

    def run(self, jobs: Sequence[Job], watch: Watch) -> list[Outcome]:
        """Carry out jobs; see `noisylearn.engines.jobs.Engine.run`."""
        watch.expect(len(jobs))
        outcomes = []
        for job in jobs:
            outcome = carried_out(job, partial(watch.running, job.label))
            watch.ended(job.label, outcome.reason)
            outcomes.append(outcome)
        return outcomes
