"""The end of a reduction as a person reads it: what was made, from what, how good, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nirflow.exits import Exit
from nirflow.tables import Column, cell, console, print_table

if TYPE_CHECKING:
    from flows.report import NightReport
    from tasks.references import ProductRef

#: More figures than these are in the product's header and in ``--json``.
_FIGURES_SHOWN = 4


def exit_code(report: NightReport) -> Exit:
    """The exit code of a reduction: partial where a product failed or a frame was left out."""
    if report.failures:
        return Exit.PARTIAL if report.products else Exit.FAILED
    if not report.products:
        return Exit.NOTHING
    lost = [*report.left_out, *(one for product in report.products for one in product.left_out)]
    return Exit.OK if all(one.expected for one in lost) else Exit.PARTIAL


def print_report(report: NightReport) -> None:
    """Print the products as a table, then warnings, failures and what was left out, with reasons."""
    columns = [
        Column("product", style="bold", fold=True), Column("frames", "right"), Column("made with", fold=True),
        Column("figures", fold=True), Column("time", "right"), Column("", fold=True),
    ]  # fmt: skip
    if report.products:
        print_table(columns, [_row(product) for product in report.products])
    out = console()

    def tell(text: str, style: str) -> None:
        out.print(text, style=style, markup=False)

    for product in report.products:
        for warning in product.warnings:
            tell(f"Warning, {product.name}: {warning}", "yellow")
    for failure in report.failures:
        tell(f"Failed, {failure.step} of {failure.label}: {failure.message}", "red")
    lost = [*report.left_out, *(member for product in report.products for member in product.left_out)]
    for member in dict.fromkeys(lost):
        style = "dim" if member.expected else "yellow"
        tell(f"Left out, {member.name}: {member.reason}. {member.remedy}".rstrip(), style)
    reused = sum(product.reused for product in report.products)
    made = len(report.products) - reused
    typer.echo(f"\n{made} made, {reused} reused, {len(report.failures)} failed in {report.seconds:.1f} s.")
    if report.step_seconds:
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in report.step_seconds.items())
        tell(f"Seconds by step, tasks added up: {steps}", "dim")
    typer.echo(f"Products: {report.out}")
    if report.log_file is not None:
        typer.echo(f"Log:      {report.log_file}")
    if report.url:
        typer.echo(f"Run:      {report.url}")


def _row(product: ProductRef) -> list[object]:
    figures = [f"{name} {cell(value)}" for name, value in product.metrics.items() if value is not None]
    return [
        product.output.name if product.output is not None else product.name,
        len(product.inputs),
        ", ".join(product.calibrations),
        ", ".join(figures[:_FIGURES_SHOWN]),
        f"{product.seconds:.1f} s",
        "reused" if product.reused else "built",
    ]
