"""From a function to a command: groups of options laid open, `--json` added, help that fits 80 columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from medrecon.cli.declare import option
from medrecon.cli.session import Outcome, Session

Json = Annotated[bool, option("--json", "Print the result as JSON on stdout, and nothing else there.")]


@dataclass(frozen=True)
class Verb:
    """A command as Typer takes it.

    Attributes:
        name: what is typed.
        run: its parameters are the options; it ends by `typer.Exit`.
        epilog: what stands below the options: how long it takes, and examples.
    """

    name: str
    run: Callable[..., None]
    epilog: str


def verb(*examples: str, takes: str = "", loads: bool = True) -> Callable[[Callable[..., Outcome]], Verb]:
    """Make a verb of a function that does its work.

    A parameter of type `Session` gets the session. One whose type is a dataclass becomes an option for each
    of its fields, and the function gets the object. All others are options and arguments, as for Typer.

    Args:
        examples: command lines, each shown on lines of its own.
        takes: how long it takes, where that is minutes.
        loads: it begins by importing what takes more than half a second, such as networks.
    """

    def decorate(work: Callable[..., Outcome]) -> Verb:
        paragraphs = [f"Time: {takes}"] if takes else []
        paragraphs += ["Examples:", "\b\n" + "\n".join(f"  {line}" for line in examples)] if examples else []
        return Verb(work.__name__, _as_typer_has_it(work, loads), "\n\n".join(paragraphs))

    return decorate


def _as_typer_has_it(work: Callable[..., Outcome], loads: bool) -> Callable[..., None]:
    # not of the function: Python 3.10 would wrap what has the default None, and so hide the option inside
    bare = type(work.__name__, (), {"__annotations__": work.__annotations__, "__module__": work.__module__})
    hints = get_type_hints(bare, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    groups: dict[str, type[Any]] = {}
    sessions = []
    for name, parameter in inspect.signature(work).parameters.items():
        kind = hints[name]
        if kind is Session:
            sessions.append(name)
        elif is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            kinds = get_type_hints(kind, include_extras=True)
            parameters += [
                inspect.Parameter(
                    each.name,
                    keyword,
                    default=inspect.Parameter.empty if each.default is MISSING else each.default,
                    annotation=kinds[each.name],
                )
                for each in fields(kind)
            ]
        else:
            parameters.append(parameter.replace(kind=keyword, annotation=kind))
    parameters.append(inspect.Parameter("as_json", keyword, default=False, annotation=Json))

    def run(ctx: typer.Context, as_json: bool, **given: Any) -> None:
        session: Session = ctx.obj
        session.json = as_json
        given |= dict.fromkeys(sessions, session)
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in fields(kind)})
        if loads:
            session.begin(f"{work.__name__}: loading ...")
        session.run(lambda: work(**given))

    run.__name__, run.__doc__ = work.__name__, work.__doc__
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


_HYPHEN = "\N{NON-BREAKING HYPHEN}"


def unbroken(text: str) -> str:
    """The text with hyphens that end no line: an option's name is typed as it stands; see `Unbroken`."""
    return text.replace("-", _HYPHEN)


class Unbroken(TyperGroup):
    """A group whose help shows as plain hyphens what `unbroken` kept together."""

    def get_help(self, ctx: Any) -> str:
        """The help as it is shown."""
        return super().get_help(ctx).replace(_HYPHEN, "-")


class GroupedCommand(TyperCommand):
    """A command that lists options under the headings they name as `rich_help_panel`, the others first."""

    def get_help(self, ctx: Any) -> str:
        """The help as it is shown."""
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments as they are: in some releases of Typer braces stand around those that are required."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write them; whatever must be typed stands whole, on a line of its own where it is long."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
                if isinstance(parameter, (TyperArgument, TyperOption)):
                    heading = parameter.rich_help_panel or heading
                names, text = record
                sections.setdefault(heading, []).append((names, unbroken(text)))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
