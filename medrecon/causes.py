"""What an exception was raised from: libraries wrap our errors, users must still get ours."""

from __future__ import annotations

from medrecon.errors import MedreconError


def causes_of(error: BaseException) -> list[BaseException]:
    """The exception and what it was raised from, outermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    return chain


def known_cause(error: BaseException) -> MedreconError | None:
    """The error of ours that an exception is, or was raised from; None if there is none."""
    return next((link for link in causes_of(error) if isinstance(link, MedreconError)), None)
