"""How is the HTML report of a result made? It is drawn from the result's JSON."""

from __future__ import annotations

from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.model.file.output_paths import check_output
from onnxtweak.results import ReportPage
from onnxtweak.settings import OutputSettings
from onnxtweak.stages.open_job import file_ref
from onnxtweak.stages.report_page import draw, read_result


def report(*, result: str, output: OutputSettings) -> ReportPage:
    """Write the HTML page of a JSON result. Raises DataError where the file is not one, OutputError."""
    check_output(output.path, force=output.force, protect=[result])
    document = read_result(result)
    write_atomic(output.path, [draw(document, result)], force=output.force, protect=[result])
    return ReportPage(file_ref(result), file_ref(output.path), made_by=str(document["command"]))
