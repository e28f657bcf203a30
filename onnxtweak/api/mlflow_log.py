"""How does a result get into MLflow? Its figures as metrics, the new model and the page as artefacts.

Importing this needs MLflow, and is the opting in:

    import mlflow
    from onnxtweak.api.mlflow_log import log_result

    with mlflow.start_run():
        log_result(onnxtweak.fit("model.onnx", data="held-out.npz", target="cat"))
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import mlflow

from onnxtweak.api.outcomes import PatchResult
from onnxtweak.report import schema
from onnxtweak.report.artefacts import flat_metrics
from onnxtweak.stages.report_page import draw

_LONGEST = 250  # characters of a parameter


def log_result(made: PatchResult, folder: str = "onnxtweak") -> None:
    """Log a result to the active run, or to a new one where there is none.

    folder : of the artefacts `model.onnx`, byte for byte what `save` writes, `result.json` and `result.html`.
    MLflow's own ONNX flavour would write the model anew; this one keeps its digest and can be verified.
    """
    document = json.loads(schema.dumps(schema.document(made.command, made)))
    verdict = document["verdict"]
    mlflow.log_metrics(
        {name.split(".", 1)[1]: value for name, value in flat_metrics({"result": document}).items()}
    )
    facts = {
        "command": made.command,
        "base_sha256": made.model.sha256,
        "goal": verdict["goal"],
        "verdict": verdict["state"],
        "targets": ", ".join(made.targets),
        "split": made.measured.split,
    }
    mlflow.log_params({f"onnxtweak.{key}": str(value)[:_LONGEST] for key, value in facts.items()})
    with tempfile.TemporaryDirectory() as place:
        files = Path(place)
        made.save(files / "model.onnx")
        (files / "result.json").write_text(schema.dumps(document), encoding="utf-8", newline="\n")
        (files / "result.html").write_bytes(draw([("result.json", document)]))
        mlflow.log_artifacts(place, folder)
