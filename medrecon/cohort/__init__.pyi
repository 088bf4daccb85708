from .run import Summary as Summary
from .run import run_cohort as run_cohort
from .settings import Settings as Settings
from .studies import Study as Study
from .studies import plan_studies as plan_studies
from .work import run_study as run_study
