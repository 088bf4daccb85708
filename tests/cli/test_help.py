"""`--help` of the program and of each verb on a terminal of 80 columns: whole words, whole examples."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from typing import get_args

import pytest

from medrecon.bundle.config import bundle_names
from medrecon.cli.app import VERBS, main
from medrecon.cli.command import Verb
from medrecon.cli.options import OutputFormat
from medrecon.io.files.destinations import FORMATS

each_verb = pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert not ended.value.code
    return capsys.readouterr().out


def typed_names(verb: Verb) -> list[str]:
    """All that may be typed: the names of options, and the metavars of what follows them."""
    names = []
    for parameter in inspect.signature(verb.run).parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            default = getattr(info, "default", ...)
            named = [*(info.param_decls or ()), default, info.metavar]
            names += [part for text in named if isinstance(text, str) for part in text.split("/--")]
    return names


@each_verb
def test_help_fits_80_columns(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch, verb.name)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert not re.search(r"\w\.\.\.(\s|$)", text), "a sentence is cut off"
    assert "<bool>" not in text
    assert not re.search(r"\w-\n", text), "a name is broken at its hyphen"
    assert [name for name in typed_names(verb) if name not in text] == []


@each_verb
def test_what_is_required_is_what_has_no_default(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = inspect.signature(verb.run).parameters.values()
    required = [each for each in parameters if each.default is each.empty and each.name != "ctx"]
    said = " ".join(help_of(capsys, monkeypatch, verb.name).split())
    assert said.count("required]") == len(required)


@each_verb
def test_examples_stand_one_a_line(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch, verb.name)
    examples = [line for line in verb.epilog.splitlines() if line.strip()]
    lines = text[text.index("Examples:") :].splitlines()
    for example in examples[examples.index("Examples:") :]:
        if example != "\b":
            assert example.strip() in [line.strip() for line in lines]
    starts = [line.strip().split()[:2] for line in lines if line.strip().startswith("medrecon")]
    assert ["medrecon", verb.name] in starts


def test_help_of_the_program_cuts_no_summary(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch)
    assert "..." not in text.replace("[ARGS]...", "")
    assert not re.search(r"\w-\n", text), "a name is broken at its hyphen"
    for verb in VERBS:
        summary = str(verb.run.__doc__).splitlines()[0]
        assert re.search(rf"^  {verb.name} +{re.escape(summary)}$", text, re.MULTILINE)


@each_verb
def test_every_choice_is_named(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(help_of(capsys, monkeypatch, verb.name).split())
    for parameter in inspect.signature(verb.run).parameters.values():
        inner = get_args(parameter.annotation)[:1]
        for kind in (*inner, *(part for each in inner for part in get_args(each))):
            if isinstance(kind, type) and issubclass(kind, Enum):
                assert "|".join(choice.value for choice in kind) in text
    if "bundle" in inspect.signature(verb.run).parameters and verb.name != "decode":
        assert [name for name in bundle_names() if name not in text] == []


def test_the_formats_are_those_that_are_written() -> None:
    assert tuple(choice.value for choice in OutputFormat) == FORMATS
