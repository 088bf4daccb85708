"""How the documentation is built: `make docs`, offline, with each warning an error.

Why these tools stands on the page Architecture.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from sphinx.application import Sphinx

import medrecon

HERE = Path(__file__).parent

project = "medrecon"
author = "The medrecon contributors"
version = release = medrecon.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True

autosummary_generate = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "literal"

html_theme = "furo"
html_title = f"medrecon {version}"
html_show_sphinx = False
html_copy_source = False


def write_command_line(_: Sphinx) -> None:
    """Write the page of the command line from the commands' own help."""
    command = [sys.executable, "-m", "typer", "medrecon.cli.app", "utils", "docs", "--name", "medrecon"]
    page = subprocess.run(
        [*command, "--title", "Command line"], capture_output=True, text=True, check=True, cwd=HERE.parent
    ).stdout
    page = re.sub(r"^\*\*Commands\*\*:.*?(?=^## )", "", page, flags=re.M | re.S)  # each has its section
    page = re.sub(r"^Examples?:\n\n\x08\n(.*?)\n\n", _as_a_block, page, flags=re.M | re.S)
    (HERE / "reference" / "command_line.md").write_text(page, encoding="utf-8")


def _as_a_block(examples: re.Match[str]) -> str:
    return f"```bash\n{textwrap.dedent(examples[1])}\n```\n\n"


def write_bundles(_: Sphinx) -> None:
    """Take over the pages of the bundles, which link to each other by their place in the repository."""
    folder = HERE / "bundles"
    folder.mkdir(exist_ok=True)
    for page in (HERE.parent / "bundles").glob("*/docs/README.md"):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"\]\(\.\./\.\./(\w+)/docs/README\.md", r"](\1.md", text)
        text = re.sub(r"\[([^]]*)\]\(provenance\.json\)", r"`\1`", text)
        (folder / f"{page.parents[1].name}.md").write_text(text, encoding="utf-8")


def plain_marks(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep the `*` of shapes, (B, C, *spatial), and the bars of |x| from being read as markup."""
    for index, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"(?<!\\)([*|])(?=\S)", r"\\\1", part) for part in parts[::2]]
        lines[index] = "`".join(parts)


def setup(app: Sphinx) -> None:
    """Join these to the build."""
    app.connect("builder-inited", write_command_line)
    app.connect("builder-inited", write_bundles)
    app.connect("autodoc-process-docstring", plain_marks)
