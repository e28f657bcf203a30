"""What does the HTML report show to whoever signs off a patched model? Drawn from a result's JSON alone.

The page is one file: no network, no font of its own, and one script, which it can do without. Light and dark
follow the reader's system.

There is no template library: most of the page is SVG whose every coordinate is computed, so templates would
hold little but calls, and the replacing of control and direction characters in `safe`, which none of them
does, would still be needed everywhere. Escaping is held by tests that give hostile names to every field, and
whatever slipped through could load nothing and run nothing under the page's content-security policy, which
knows the digest of its own script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

from onnxtweak.intervals import paired
from onnxtweak.report.changes import in_a_sentence
from onnxtweak.report.markup import (
    between,
    change,
    counted_in,
    facts,
    in_words,
    percent,
    safe,
    section,
    shortened,
    table,
)
from onnxtweak.report.page import pictures
from onnxtweak.report.page.class_table import class_table
from onnxtweak.report.page.frame import NO_IMPRINT, Imprint, framed
from onnxtweak.report.page.matched import matched
from onnxtweak.report.page.samples import changed_samples, listed_samples
from onnxtweak.report.page.strengths import strengths
from onnxtweak.report.promises import headline, remarks, rows
from onnxtweak.verdict import BASE, COPY, KEPT, LISTED, NOT_KEPT


def page(made: Mapping[str, Any], imprint: Imprint = NO_IMPRINT) -> str:
    """The document of a result (`onnxtweak.report.schema`, as JSON reads it back) as HTML.

    Sections whose evidence is missing are left out. Raises LookupError, TypeError, ValueError or
    AttributeError if `made` is not such a document.
    """
    evidence = made.get("evidence", {})
    name = PurePath(made["model"]["path"]).name
    body = "".join(
        (
            _head(made, name),
            _promises(made),
            _metric(made),
            _tiles(made, evidence),
            matched(made),
            listed_samples(made),
            strengths(made, evidence),
            class_table(made, evidence),
            changed_samples(made, evidence),
            _gates(made),
            pictures.confusion(made, evidence),
            pictures.trade_off(made, evidence),
            pictures.neurons(made, evidence),
            _cost(made, evidence),
            _provenance(made, evidence),
        )
    )
    return framed(f"{name}: {made['command']}", body, imprint)


def _head(made: Mapping[str, Any], name: str) -> str:
    """The verdict, large; who gains and who pays; then the figures, gates and checks."""
    before, after = made["before"], made["after"]
    failed = [gate["name"] for gate in made.get("gates", ()) if not gate["passed"]]
    unsound = [check["name"] for check in made["checks"] if not check["passed"]]
    verdict = made.get("verdict")  # older versions had none
    file = f"<bdi>{safe(name)}</bdi>, {safe(made['command'])}"
    head = f"<h1>{file}</h1>"
    if verdict is not None:
        head = f"<p class=file>{file}</p><h1>{_state_badge(verdict['state'], headline(verdict))}</h1>"
    badges = ""
    if made.get("gates"):
        badges += _badge(
            not failed, f"{len(made['gates']) - len(failed)} of {len(made['gates'])} gates passed"
        )
    badges += _badge(
        not unsound, f"{len(made['checks']) - len(unsound)} of {len(made['checks'])} checks passed"
    )
    targets = ", ".join(shortened(target, 40) for target in made["targets"][:8])
    more = f" and {len(made['targets']) - 8} more" if len(made["targets"]) > 8 else ""
    said = (
        f"{' '.join(('Overall', *filter(None, [before.get('measure')])))}: {percent(before['overall'])} % "
        f"before, {percent(after['overall'])} % after. "
        f"Measured on the {made['split']} {'samples' if made['split'] == LISTED else 'split'}."
    )
    if targets:
        own = f"{percent(before['target'])} % before, {percent(after['target'])} % after"
        said = f"{targets}{more}: {own}. {said}"
    paid = "" if made.get("answer") == BASE else f'<p class="paid">{safe(in_a_sentence(made))}</p>'
    return f'<header>{head}{paid}<p class="verdict">{safe(said)}</p><div>{badges}</div></header>'


def _tiles(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    before, after, control = made["before"], made["after"], made["bias_control"]
    own = before["target"], after["target"], _changed(evidence, made, targets_only=True)
    bias = before["target"], control["target"], ""
    unit = safe((made.get("verdict") or {}).get("unit", "samples"))
    tiles = (
        *([_tile("target classes", *own)] if made["targets"] else []),
        _tile("all classes", before["overall"], after["overall"], _changed(evidence, made)),
        *([_tile("target classes, bias only", *bias)] if made["targets"] else []),
        f'<div class="tile"><span>fixed, broken</span><b>{made["fixed"]:,}, {made["broken"]:,}</b>'
        f"<span>{unit}; McNemar p = {_number(made['mcnemar_p'], '.2g')}</span></div>",
        f'<div class="tile"><span>E</span><b>{_number(made["E"], ".2f")}</b>'
        "<span>points lost, root mean square over classes</span></div>",
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _badge(good: bool, said: str) -> str:
    return f'<span class="badge {"gain" if good else "loss"}-said">{"✓" if good else "✗"} {safe(said)}</span>'


def _state_badge(state: str, said: str) -> str:
    """Green for what was kept, and for nothing else."""
    mark, kind = {KEPT: ("✓", "gain"), NOT_KEPT: ("✗", "loss")}.get(state, ("–", "doubt"))
    return f'<span class="badge {kind}-said">{mark} {safe(said)}</span>'


def _promises(made: Mapping[str, Any]) -> str:
    """A row for each promise, what would be regretted first; of a copy, that it is one."""
    verdict = made.get("verdict")
    if verdict is None:
        return ""
    if verdict["state"] == COPY:
        said = "Nothing that was tried did better than the base, so the file is the base, byte for byte."
        asked = [("goal", f"<bdi>{safe(verdict['goal'])}</bdi>")] if verdict.get("goal") else []
        told = "".join(f"<p>{safe(remark)}</p>" for remark in remarks(verdict))
        answer = facts([*asked, ("answer", safe(verdict["answer"]))])
        return section("A copy of the base", answer, told, said=said)
    listed = [
        [
            _state_badge(NOT_KEPT if row.surely else row.state, row.state),
            f"<bdi>{safe(row.said)}</bdi>",
            safe(row.change),
            safe(row.interval),
        ]
        for row in rows(verdict)
    ]
    goal = f"<p>Goal: <bdi>{safe(verdict['goal'])}</bdi>.</p>" if verdict.get("goal") else ""
    told = "".join(f"<p>{safe(said)}</p>" for said in remarks(verdict))
    unit = safe(verdict.get("unit", "samples"))
    for column, groups in groupby(verdict.get("groups", ()), lambda group: group["column"]):
        head = [safe(column), unit, "base", "tweaked", "change", "95 % interval"]
        told += table(head, list(map(_group, groups)), numbers=5)
    judged = f"{verdict['samples']:,} {verdict['split']} {unit}"
    return section(
        "Verdict",
        goal,
        table(["", "promise", "points", "95 % interval"], listed, numbers=2),
        told,
        said=f"On {judged}. Kept: the whole interval keeps the promise. Not kept: none of it does. Not shown:"
        " these samples cannot tell.",
    )


def _group(group: Mapping[str, Any]) -> list[str]:
    """A row: accuracies of base and tweaked model on a group."""
    return [
        f"<bdi>{safe(group['name'])}</bdi>",
        f"{group['samples']:,}",
        percent(group["before"]),
        percent(group["after"]),
        change(group["before"], group["after"]),
        between((group["interval"][0] / 100, group["interval"][1] / 100), sign=True),
    ]


def _metric(made: Mapping[str, Any]) -> str:
    """The metric that was the goal, of each model; with a limit, what each does at its own cut."""
    metric = made.get("metric")
    if metric is None:
        return ""
    head, limited = ["", "value", "95 % interval"], metric["after"]["at_cut"] is not None
    if limited:
        rate = "false positives" if metric["at_most"] else "precision"
        head += ["recall at its own cut", rate, "95 % interval", "limit"]
    listed = []
    for name, side in (("base", "before"), ("tweaked", "after"), ("bias only", "bias")):
        one = metric[side]
        row = [name, percent(one["value"]), between(one["interval"])]
        if cut := one["at_cut"]:
            kept = _badge(cut["kept"], "kept" if cut["kept"] else "exceeded")
            row += [percent(cut["recall"]), percent(cut["rate"]), between(cut["interval"]), kept]
        listed.append(row)
    name = metric["after"]["name"]
    said = f"{name}, per 100 {counted_in([name])}{'; ' if limited else ''}{metric['promise']}."
    title = metric["after"]["title"]
    shown = table(head, listed, numbers=6 if limited else 2)
    return section(f"{title[:1].upper()}{title[1:]}", shown, said=said)


def _tile(title: str, before: float | None, after: float | None, interval: str) -> str:
    said = f"95 % interval {interval}" if interval else f"from {percent(before)} to {percent(after)} %"
    moved = f"<b>{change(before, after)}</b>"
    return f'<div class="tile"><span>{title}, points</span>{moved}<span>{said}</span></div>'


def _changed(evidence: Mapping[str, Any], made: Mapping[str, Any], targets_only: bool = False) -> str:
    """The paired interval of a change, in points."""
    if not evidence.keys() >= {"support", "fixed", "broken"}:
        return ""
    chosen: Sequence[int] = range(len(made["classes"]))
    if targets_only:
        chosen = [made["classes"].index(target) for target in made["targets"]]
    counts = (sum(evidence[key][c] for c in chosen) for key in ("fixed", "broken", "support"))
    return between(paired(*counts), sign=True)


def _gates(made: Mapping[str, Any]) -> str:
    gates = [
        [
            _badge(g["passed"], "passed" if g["passed"] else "failed"),
            safe(g["name"]),
            f"{g['limit']:g}",
            _number(g["measured"], ".4g"),
        ]
        for g in made.get("gates", ())
    ]
    checks = [
        [_badge(c["passed"], "passed" if c["passed"] else "failed"), safe(c["name"]), safe(c["detail"])]
        for c in made["checks"]
    ]
    parts = [table(["", "gate", "limit", "measured"], gates, numbers=2)] if gates else []
    parts += [table(["", "check", "found"], checks)] if checks else []
    return section("Gates and checks" if gates else "Checks", *parts)


def _cost(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    rows = []
    if latency := evidence.get("latency"):
        rows.append(
            [
                "one sample, one CPU thread",
                f"{latency['before']:,.1f} µs",
                f"{latency['after']:,.1f} µs",
                f"{latency['increase']:+.1f} %",
            ]
        )
    if size := evidence.get("size"):
        more = size["after"] - size["before"]
        rows.append(["file", _size(size["before"]), _size(size["after"]), _size(more, "+")])
    rows.append(["parameters", "", "", f"{made['tweak']['parameters']:+,}"])
    said = f"Latency: medians of {latency['turns']} alternating runs." if latency else ""
    return section("Cost", table(["", "base", "tweaked", "difference"], rows, numbers=3), said=said)


def _size(count: int, sign: str = "") -> str:
    """Bytes, as kilobytes where they are many."""
    return f"{count:{sign},} bytes" if abs(count) < 10_000 else f"{count / 1000:{sign},.1f} kB"


def _provenance(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    def file(ref: Mapping[str, Any]) -> str:
        return f"{safe(ref['path'])}<br><code>sha256 {safe(ref['sha256'])}</code>"

    pairs = [("base", file(made["model"]))]
    pairs += [("written", file(made["output"]))] if made["output"] else [("written", "nothing")]
    pairs += [("method", safe(f"{made['command']}: theta {made['theta']}, criterion {made['criterion']}"))]
    pairs += [("neurons scored", f"{made['neurons']:,}")]
    pairs += [("samples", safe(", ".join(f"{role} {count:,}" for role, count in made["samples"].items())))]
    for key, value in evidence.get("provenance", {}).items():
        if isinstance(value, (str, int, float)) and (words := in_words(value)):
            pairs.append(
                (
                    safe(key.replace("_", " ")),
                    f"<code>{safe(words)}</code>" if "sha256" in key else safe(words),
                )
            )
    device = {key: value for key, value in made["device"].items() if key != "providers"}
    pairs += [("machine", safe(in_words(device)))]
    if nodes := in_words(made["device"].get("providers")):
        pairs += [("nodes of the model", safe(nodes))]
    spent = {stage: _number(seconds, ".2f") for stage, seconds in made["seconds"].items()}
    pairs += [("seconds", safe(in_words(spent)))]
    pairs += [("passes", safe(", ".join(f"{p['name']} {p['samples']:,}" for p in made["passes"])))]
    pairs += [("note", safe(note)) for note in made["notes"]]
    return section("Where this comes from", facts(pairs))
