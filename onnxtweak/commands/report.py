"""How is the HTML report of results made? It is drawn from their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.model.file.output_paths import check_output
from onnxtweak.report.page.frame import Imprint
from onnxtweak.results import ReportPage
from onnxtweak.settings import OutputSettings
from onnxtweak.stages.open_job import file_ref
from onnxtweak.stages.report_page import draw, read_results, require_page_name


def report(*, results: Sequence[str], output: OutputSettings, title: str = "", date: str = "") -> ReportPage:
    """Write the HTML page of a JSON result, or of several side by side; as *.md, a model card's section.

    results : paths. title, date : what an author puts on the page; without them the same results give the
    same bytes. Raises DataError where a file is not a result, OutputError.
    """
    check_output(output.path, force=output.force, protect=results)
    card = Path(output.path).suffix.lower() == ".md"
    if not card:
        require_page_name(output.path)
    documents = read_results(results)
    page = draw(documents, Imprint(title, date), card=card)
    write_atomic(output.path, [page], force=output.force, protect=results)
    made_by = dict.fromkeys(str(made["command"]) for _, made in documents)
    return ReportPage(tuple(map(file_ref, results)), file_ref(output.path), ", ".join(made_by))
