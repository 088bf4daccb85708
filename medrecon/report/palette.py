"""Colours of the page: named once, light and dark, for the style sheet and for the charts in it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.colors import to_hex

LIGHT = {
    "paper": "#ffffff",
    "raised": "#f5f7f9",
    "ink": "#171b20",
    "faint": "#566069",
    "line": "#d7dde3",
    "accent": "#0b5cad",
    "warn": "#8a4b00",
    "rule": "#b9c2cb",
}
DARK = {
    "paper": "#0e1116",
    "raised": "#161b22",
    "ink": "#e8ecf1",
    "faint": "#9ba6b3",
    "line": "#2a313a",
    "accent": "#6cb2ff",
    "warn": "#f0b35c",
    "rule": "#434c57",
}


@dataclass(frozen=True)
class Look:
    """Colours of a chart, light or dark, as in the report."""

    paper: str
    ink: str
    faint: str
    line: str
    rule: str
    accent: str
    dark: bool

    @classmethod
    def of(cls, dark: bool) -> Look:
        """The report's colours."""
        named = DARK if dark else LIGHT
        return cls(
            **{name: named[name] for name in ("paper", "ink", "faint", "line", "rule", "accent")}, dark=dark
        )

    def ramp(self, count: int) -> list[str]:
        """Colours of so many groups."""
        return ramp(count, self.dark)


def ramp(count: int, dark: bool = False) -> list[str]:
    """Colours of so many layers, from shallow to deep: each at 3:1 or more against the paper."""
    first, last = (0.95, 0.46) if dark else (0.02, 0.62)
    step = (last - first) / max(1, count - 1)
    return [to_hex(colormaps["plasma"](first + step * place)) for place in range(count)]


def variables(count: int) -> str:
    """The custom properties of the style sheet: light, and dark where the reader prefers it, not in print."""
    light = _block({**LIGHT, **{f"c{k}": c for k, c in enumerate(ramp(count))}})
    dark = _block({**DARK, **{f"c{k}": c for k, c in enumerate(ramp(count, dark=True))}})
    scheme = "color-scheme: light dark;"
    return (
        f":root {{ {scheme} {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def themed(count: int) -> dict[str, str]:
    """Colour of a chart as matplotlib writes it -> the custom property that stands for it in the page."""
    names = {value: f"var(--{name})" for name, value in LIGHT.items()}
    return names | {colour: f"var(--c{k})" for k, colour in enumerate(ramp(count))}


def _block(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
