"""How do other programs read a run: CI pages, experiment trackers, supply-chain auditors?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from onnxtweak.printable import visible_json
from onnxtweak.report.markup import STRANGE

Documents = Mapping[str, Mapping[str, Any]]

_FIGURES = ("overall", "target")


def metrics(results: Documents) -> str:
    """`metrics.json`: one flat object of numbers, as MLflow and DVC read them."""
    flat: dict[str, float] = {}
    for name, made in results.items():
        for side in ("before", "after", "bias_control"):
            flat |= {f"{name}.{side}.{key}": made[side][key] for key in _FIGURES}
        flat |= {f"{name}.{key}": made[key] for key in ("E", "fixed", "broken", "mcnemar_p")}
        flat |= {f"{name}.parameters": made["tweak"]["parameters"]}
        latency = made.get("evidence", {}).get("latency")
        if latency:
            flat |= {f"{name}.latency_increase": latency["increase"]}
    return _json({key: value for key, value in flat.items() if value is not None})


def junit(results: Documents) -> str:
    """`junit.xml`: a suite per tweak, a case per gate and per check."""
    suites, failures, cases = [], 0, 0
    for name, made in results.items():
        lines = []
        for gate in made["gates"]:
            measured = "nothing to measure" if gate["measured"] is None else f"{gate['measured']:.6g}"
            said = f"limit {gate['limit']:g}, measured {measured}"
            lines.append(_case(f"{name}.gates", gate["name"], gate["passed"], said))
        for check in made["checks"]:
            lines.append(_case(f"{name}.checks", check["name"], check["passed"], check["detail"]))
        failed = sum("<failure" in line for line in lines)
        seconds = made["seconds"].get("all") or 0.0
        suites.append(
            f'  <testsuite name={_attribute(name)} tests="{len(lines)}" failures="{failed}" errors="0" '
            f'time="{seconds:.3f}">\n' + "".join(lines) + "  </testsuite>\n"
        )
        failures, cases = failures + failed, cases + len(lines)
    head = f'<testsuites name="onnxtweak" tests="{cases}" failures="{failures}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{"".join(suites)}</testsuites>\n'


def _case(group: str, name: str, passed: bool, said: str) -> str:
    case = f"    <testcase classname={_attribute(group)} name={_attribute(name)}"
    if passed:
        return f"{case}/>\n"
    return f"{case}><failure message={_attribute(said)}>{_xml(said)}</failure></testcase>\n"


def _xml(text: str) -> str:
    return escape(STRANGE.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(STRANGE.sub("\ufffd", text))


def provenance(
    subjects: Sequence[tuple[str, str]], materials: Mapping[str, str], recipe: Mapping[str, Any], version: str
) -> str:
    """`provenance.json`: an in-toto statement with a SLSA predicate; no time or place is in it.

    subjects : (file name, sha256) of what was made. materials : name and sha256 of what it was made from.
    recipe : what was requested.
    """
    return _json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "urn:onnxtweak:run:1",
                    "externalParameters": recipe,
                    "resolvedDependencies": [
                        {"name": name, "digest": {"sha256": digest}} for name, digest in materials.items()
                    ],
                },
                "runDetails": {"builder": {"id": f"urn:onnxtweak:{version}"}},
            },
        }
    )


def sums(files: Sequence[tuple[str, str]]) -> str:
    """`SHA256SUMS`, for `sha256sum -c`. files : (name, sha256)."""
    return "".join(f"{digest}  {name}\n" for name, digest in files)


def _json(value: Any) -> str:
    return visible_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
