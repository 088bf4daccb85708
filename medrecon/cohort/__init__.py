"""Many studies on one machine or a cluster: planned, shared among long-lived workers, verified, resumed.

`plan_studies` names the studies, `run_cohort` gives each to a worker of Parsl, and `run_study` is what a
worker does with it. A study's results appear in one rename, with a record of their hashes: that record, and
nothing that an earlier run said, decides what a later run skips. They are imported when they are first used.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.cohort.run import Summary, run_cohort
    from medrecon.cohort.settings import Settings
    from medrecon.cohort.studies import Study, plan_studies
    from medrecon.cohort.work import run_study


__all__ = ["Settings", "Study", "Summary", "plan_studies", "run_cohort", "run_study"]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["Summary", "run_cohort"],
        "settings": ["Settings"],
        "studies": ["Study", "plan_studies"],
        "work": ["run_study"],
    },
)
