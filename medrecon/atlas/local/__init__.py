"""An atlas without a command line: a page on this machine takes scans, runs them and opens their reports."""

from medrecon.atlas.local.jobs import Jobs
from medrecon.atlas.local.server import LocalServer

__all__ = ["Jobs", "LocalServer"]
