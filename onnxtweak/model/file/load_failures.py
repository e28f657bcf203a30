"""Why does ONNX Runtime not load a model? Its words for faults of the file in plain ones, with the repair."""

from __future__ import annotations

import re
import shlex

_LOAD_ALONE = (
    "load it in ONNX Runtime alone; common causes are an opset that is too new, and custom operators "
    "(--custom-ops LIB)"
)
# Its message; what happened; what to do, where REPAIR(...) stands for a command that changes the model `m`.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"two nodes with same node name \((?P<name>.*?)\)",
        "two nodes have the name `{name}`, and ONNX Runtime wants each to have its own",
        "remove the names, which nothing needs: REPAIR([n.ClearField('name') for n in m.graph.node])",
    ),
    (
        r"Duplicate definition of name \((?P<name>.*?)\)|Duplicate definition-site for \((?P<name2>.*?)\)",
        "two nodes compute the tensor `{name}`",
        "export the model again: which of the two is meant cannot be told",
    ),
    (
        r"Opset (?P<have>\d+) is under development.*?(?:domain )?(?P<domain>\S+) is till opset (?P<most>\d+)",
        "the model uses opset {have} of {domain}, and this ONNX Runtime knows opsets up to {most}",
        "upgrade ONNX Runtime, or export the model with opset {most} or older",
    ),
    (
        r"Unsupported model IR version: (?P<have>\d+), max supported IR version: (?P<most>\d+)",
        "the model has IR version {have}, and this ONNX Runtime knows versions up to {most}",
        "upgrade ONNX Runtime, or lower the number: REPAIR(setattr(m, 'ir_version', {most}))",
    ),
    (
        r"Could not find an implementation for (?P<op>\w+)\((?P<version>[1-6])\) node",
        "ONNX Runtime has no {op} of an opset as old as {version}",
        # The converter refuses axes without a fixed size: they get one while it works.
        "convert the model to a newer opset: REPAIR(axes = lambda m: [a for v in [*m.graph.input, "
        "*m.graph.output] for a in v.type.tensor_type.shape.dim]; names = [not a.dim_value and "
        "(a.dim_param,) for a in axes(m)]; [setattr(a, 'dim_value', a.dim_value or 1) for a in axes(m)]; "
        "m = onnx.version_converter.convert_version(m, 13); del m.graph.value_info[:]; "
        "[setattr(a, 'dim_param', n[0]) for a, n in zip(axes(m), names) if n])",
    ),
    (
        r"Type \(tensor\((?P<said>\w+)\)\) of output arg \((?P<name>.*?)\) of node \(.*?\) does not match "
        r"expected type \(tensor\((?P<real>\w+)\)\)",
        "the model declares the tensor `{name}` as {said}, but its node computes {real}",
        "declare it as what it is: REPAIR([setattr(v.type.tensor_type, 'elem_type', onnx.TensorProto."
        "{proto}) for v in [*m.graph.output, *m.graph.value_info] if v.name == '{name}'])",
    ),
    (
        r"Node input '(?P<name>.*?)' is not a graph input, initializer, or output of a previous node",
        "a node reads `{name}`, which nothing in the model computes",
        "export the model again",
    ),
    (
        r"(?P<op>[\w.:]+)\(-1\) is not a registered function/op|No Op registered for (?P<op2>\w+)",
        "ONNX Runtime does not know the operator {op}",
        "give the library that defines it: --custom-ops LIB; or export the model with an opset that has it",
    ),
    (
        r"Missing opset in the model",
        "the model declares no opset",
        "add the one it was exported with, such as 17: REPAIR(m.opset_import.add(domain='', version=17))",
    ),
)


def why_not_loaded(message: str, where: object) -> tuple[str, str]:
    """What happened, and what to do. message : ONNX Runtime's. where : the model's path."""
    text = " ".join(message.split())
    for pattern, what, hint in _KNOWN:
        if match := re.search(pattern, text):
            found = {key.rstrip("2"): value for key, value in match.groupdict().items() if value is not None}
            found["proto"] = found.get("real", "").upper()
            found = {key: value.strip("'\"") for key, value in found.items()}
            return what.format(**found), _with_command(hint.format(**found), where)
    return text if len(text) <= 300 else text[:297] + "...", _LOAD_ALONE


def repair(change: str, where: object) -> str:
    """A command that writes the changed model beside it. change : Python that edits `m`."""
    path = str(where)
    new = re.sub(r"(\.\w+)?$", "-repaired.onnx", path, count=1)
    load = "import onnx, onnx.version_converter" if "version_converter" in change else "import onnx"
    code = f"{load}; m = onnx.load({path!r}); {change}; onnx.save(m, {new!r})"
    # Double quotes are easier to read; within them a shell would change these.
    return shlex.join(["python", "-c", code]) if set(code) & set('"$`\\!') else f'python -c "{code}"'


def _with_command(hint: str, where: object) -> str:
    said, marked, change = hint.partition("REPAIR(")
    return f"{said}{repair(change[:-1], where)}" if marked else said
