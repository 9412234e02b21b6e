"""Figures that tests measured, printed at the end of a run: `record_property("figure", "a line")`."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter) -> None:
    """Print every figure under the name of its test file."""
    figures: dict[str, list[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when != "call":
                continue
            lines = [str(value) for name, value in report.user_properties if name == "figure"]
            figures.setdefault(report.location[0], []).extend(lines)
    for place, lines in sorted(figures.items()):
        if lines:
            terminalreporter.section(f"measured by {place}", sep="-")
            for line in lines:
                terminalreporter.write_line(line)
