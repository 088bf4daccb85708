"""Runs a module as `python -m` does, without the current folder: `python .../run_module.py NAME ARGUMENTS`.

`python -m` looks for code in the current folder first, and that may be a folder of somebody's scans with a
`monai.py` in it; for a script Python looks in the script's own folder, which is taken off the path here.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded yet

if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place != _HERE]
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
