"""`report`: the pictures of a result, drawn from its JSON."""

from __future__ import annotations

from onnxtweak.model.file.output_file import check_output, write_atomic
from onnxtweak.results import ReportPage
from onnxtweak.settings import OutputSettings
from onnxtweak.stages.open_job import file_ref
from onnxtweak.stages.report_page import draw, read_result


def report(*, result: str, output: OutputSettings) -> ReportPage:
    """A page of pictures from a JSON result. Raises DataError for any other file, OutputError."""
    check_output(output.path, force=output.force, protect=[result])
    made = read_result(result)
    write_atomic(output.path, [draw(made, result)], force=output.force, protect=[result])
    return ReportPage(file_ref(result), file_ref(output.path), made_by=str(made["command"]))
