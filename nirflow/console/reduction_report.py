"""The report at the end of a reduction: products, their inputs and quality, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imaging.figures import headlines
from imaging.listed import gathered
from imaging.product_figures import figures_of
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_table
from nirflow.exits import Exit
from tasks.support.references import gathered_left_out, gathered_notes

if TYPE_CHECKING:
    from flows.run.report import NightReport
    from tasks.support.references import ProductRef


def exit_code(report: NightReport) -> Exit:
    """Return the exit code of a reduction: partial if a product failed or was kept, or a frame was left out."""
    if report.failures:
        return Exit.PARTIAL if report.products else Exit.FAILED
    if report.kept:
        return Exit.PARTIAL
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
    for warning in report.warnings:
        print_lines(f"Warning: {warning}.", style="yellow")
    warnings = ((product.name, warning) for product in report.products for warning in product.warnings)
    for same in gathered(warnings, "product"):
        print_lines(f"Warning, {same.label}: {same.text}", style="yellow")
    for one in report.replaced:
        print_lines(f"Superseded, {one.old}: replaced by {one.new}.", style="cyan")
    for kept in report.kept:
        print_lines(f"Not replaced, {kept.old}: {_sentence(kept.reason)} {kept.remedy}".rstrip(), style="red")
    for ref in report.lacking:
        print_lines(f"Incomplete, {report.frames_lost(ref)}.", style="red")
    for failure in report.failures:
        print_lines(f"Failed, {failure.step} of {failure.label}: {failure.message}", style="red")
    lost = [*report.left_out, *(member for product in report.products for member in product.left_out)]
    for member in gathered_left_out(lost):
        style = "dim" if member.expected else "yellow"
        print_lines(
            f"Left out, {member.name}: {_sentence(member.reason)} {member.remedy}".rstrip(), style=style
        )
    for same in gathered_notes(report.notes):
        print_lines(f"Note, {same.label}: {_sentence(same.text)}", style="cyan")
    reused = sum(product.reused for product in report.products)
    made = len(report.products) - reused
    print_lines("", f"{made} made, {reused} reused, {len(report.failures)} failed in {report.seconds:.1f} s.")
    if report.step_seconds:
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in report.step_seconds.items())
        print_lines(f"Seconds by step, summed over tasks: {steps}", style="dim")
    print_lines(f"Products: {report.out}")
    if report.log_file is not None:
        print_lines(f"Log:      {report.log_file}")
    if report.url:
        print_lines(f"Run:      {report.url}")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _short(name: str) -> str:
    """Return a product's name without the suffix common to all names."""
    return name.removesuffix(".fits")


def _row(product: ProductRef) -> list[object]:
    figures = headlines(figures_of(product.kind), product.metrics)
    return [
        product.output.name if product.output is not None else product.name,
        len(product.inputs),
        ", ".join(_short(name) for name in product.calibrations),
        ", ".join(f"{one.label} {one.quantity}" for one in figures),
        f"{product.seconds:.1f} s",
        "reused" if product.reused else "built",
    ]
