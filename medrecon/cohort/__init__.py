"""Many studies on one machine or a cluster: planned, shared among long-lived workers, verified, resumed.

`plan_studies` names the studies, `run_cohort` gives each to a worker of Parsl, and `run_study` is what a
worker does with it. A study's results appear in one rename, with a record of their hashes: that record, and
nothing that an earlier run said, decides what a later run skips. They are imported when they are first used.
"""

from typing import TYPE_CHECKING

from medrecon.lazy import lazily

if TYPE_CHECKING:
    from medrecon.cohort.plan import Study, plan_studies
    from medrecon.cohort.run import Summary, run_cohort
    from medrecon.cohort.settings import Settings
    from medrecon.cohort.work import run_study

_PLACES = {
    "Settings": "settings",
    "Study": "plan",
    "Summary": "run",
    "plan_studies": "plan",
    "run_cohort": "run",
    "run_study": "work",
}

__all__ = ["Settings", "Study", "Summary", "plan_studies", "run_cohort", "run_study"]

__getattr__ = lazily(__name__, _PLACES)
