"""Many studies on one machine or a cluster: planned, shared among long-lived workers, verified, resumed.

`plan_studies` names the studies, `run_cohort` gives each to a worker of Parsl, and `run_study` is what a
worker does with it. A study's results appear in one rename, with a record of their hashes: that record, and
nothing that an earlier run said, decides what a later run skips. They are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
