"""How do other programs read a run: CI pages, experiment trackers, supply-chain auditors?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from onnxtweak.printable import visible_json
from onnxtweak.report.markup import STRANGE
from onnxtweak.report.promises import COPIED, NO_LIMIT, rows
from onnxtweak.verdict import COPY, KEPT, NOT_KEPT, NOT_SHOWN

Documents = Mapping[str, Mapping[str, Any]]

_FIGURES = ("overall", "target")
_STATES = (KEPT, NOT_KEPT, NOT_SHOWN)


def metrics(results: Documents) -> str:
    """`metrics.json`: one flat object of numbers, as MLflow and DVC read them."""
    return _json(flat_metrics(results))


def flat_metrics(results: Documents) -> dict[str, float]:
    """Every figure of some results by a name of its own; those that are missing are left out."""
    flat: dict[str, float] = {}
    for name, made in results.items():
        for side in ("before", "after", "bias_control"):
            flat |= {f"{name}.{side}.{key}": made[side][key] for key in _FIGURES}
        flat |= {f"{name}.{key}": made[key] for key in ("E", "fixed", "broken", "mcnemar_p")}
        flat |= {f"{name}.parameters": made["tweak"]["parameters"]}
        if metric := made.get("metric"):
            flat |= {f"{name}.metric.{side}": metric[side]["value"] for side in ("before", "after", "bias")}
            if cut := metric["after"]["at_cut"]:
                flat |= {f"{name}.metric.{key}": cut[key] for key in ("recall", "rate")}
        if verdict := made.get("verdict"):
            states = [promise["state"] for promise in verdict["promises"]]
            flat |= {f"{name}.promises.{s.replace(' ', '_')}": states.count(s) for s in _STATES}
        latency = made.get("evidence", {}).get("latency")
        if latency:
            flat |= {f"{name}.latency_increase": latency["increase"]}
    return {key: value for key, value in flat.items() if value is not None}


def junit(results: Documents) -> str:
    """`junit.xml`: a suite per tweak, a case per promise, gate and check; what is not shown is skipped."""
    suites, failures, skips, cases = [], 0, 0, 0
    for name, made in results.items():
        lines = _promise_cases(name, made["verdict"]) if "verdict" in made else []
        for gate in made["gates"]:
            measured = "nothing to measure" if gate["measured"] is None else f"{gate['measured']:.6g}"
            said = f"limit {gate['limit']:g}, measured {measured}"
            lines.append(_case(f"{name}.gates", gate["name"], gate["passed"], said))
        for check in made["checks"]:
            lines.append(_case(f"{name}.checks", check["name"], check["passed"], check["detail"]))
        failed, skipped = (sum(tag in line for line in lines) for tag in ("<failure", "<skipped"))
        seconds = made["seconds"].get("all") or 0.0
        suites.append(
            f'  <testsuite name={_attribute(name)} tests="{len(lines)}" failures="{failed}" errors="0" '
            f'skipped="{skipped}" '
            f'time="{seconds:.3f}">\n' + "".join(lines) + "  </testsuite>\n"
        )
        failures, skips, cases = failures + failed, skips + skipped, cases + len(lines)
    head = f'<testsuites name="onnxtweak" tests="{cases}" failures="{failures}" skipped="{skips}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{"".join(suites)}</testsuites>\n'


def _promise_cases(name: str, verdict: Mapping[str, Any]) -> list[str]:
    """A case per promise; of a copy of the base, one that is skipped."""
    group = f"{name}.verdict"
    if verdict["state"] == COPY:
        return [_case(group, "tweaked", None, COPIED)]
    kept = {KEPT: True, NOT_KEPT: False}
    return [
        _case(group, row.asked, kept.get(row.state), f"{row.said}: {row.change} points ({row.interval})")
        for row in rows(verdict)
        if row.state != NO_LIMIT
    ]


def _case(group: str, name: str, passed: bool | None, said: str) -> str:
    """passed : None where it could not be told."""
    case = f"    <testcase classname={_attribute(group)} name={_attribute(name)}"
    if passed:
        return f"{case}/>\n"
    if passed is None:
        return f"{case}><skipped message={_attribute(said)}/></testcase>\n"
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
