"""Results of a check as a person or a program reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmm.ladder.criteria import Result


def as_json(results: Sequence[Result], predicted: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for every criterion; `predicted` maps an experiment to what the journal foretold of it."""
    return [
        result.stored()
        | {"why": result.why, "hint": result.hint, "value": result.value, "got": result.got}
        | ({"predicted": predicted.get(_experiment(result), "")} if result.record else {})
        for result in results
    ]


def render(heading: str, results: Sequence[Result], predicted: Mapping[str, str]) -> None:
    """Print every criterion: what was expected, what came out, why it matters, what helps."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=not Console().is_terminal, highlight=False)
    console.print(f"[bold]{escape(heading)}[/]")
    for result in results:
        sign, colour = ("●", "green") if result.passed else ("✗", "bold red")
        console.print(f"[{colour}]{sign} {result.id}[/]  {escape(result.what)}")
        rows = {"expected": result.expected, "got": f"[{colour}]{escape(result.got)}[/]"}
        if result.record:
            rows["predicted"] = escape(predicted.get(_experiment(result), "nothing was written down before the run"))
        rows |= {"why": f"[dim]{escape(result.why)}[/]", "hint": f"[dim]{escape(result.hint)}[/]"}
        for label, text in rows.items():
            if text:
                console.print(f"    [dim]{label:9}[/] {text if label in ('got', 'why', 'hint') else escape(text)}")
    met = sum(result.passed for result in results)
    console.print(f"[{'green' if met == len(results) else 'red'}]{met} of {len(results)} criteria hold[/]")


def _experiment(result: Result) -> str:
    return result.record.partition(".")[0]
