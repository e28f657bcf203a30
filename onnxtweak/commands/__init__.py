"""The story of each command, one file each: what `onnxtweak.cli` calls and what Python programs call.

job        what every story begins with: model and samples opened, taps chosen
join       synaptic join
retrain    synaptic retraining, once or by a schedule
augment    an MLP on active neurons, for all classes
fit        the best patch that the tables allow
scored     theta of the fit samples; collected: tables of chosen neurons: both kept for a later run
compare    every method on the same samples
deliver    how every tweak ends: spliced, proven, tested, written
evaluate   how good is a model?
tables     dump and score: tables on disk, theta of every neuron
files      inspect and apply: what needs no samples
undo       revert and diff: a tweaked file and its base
verify     a tweaked file, proven again
slot       a model that takes another tweak in each call
report     the pictures of a result
begin      init: a recipe for a model and data
forecast   what a command would do, and how long it would take; planner lists its passes
run        a recipe, carried out; handover says where its files go
doctor     what works on this machine?
demo       the main job on the model and samples that come with onnxtweak
"""

from onnxtweak.commands.apply import apply
from onnxtweak.commands.augment import augment
from onnxtweak.commands.compare import compare
from onnxtweak.commands.demo import demo
from onnxtweak.commands.diff import diff
from onnxtweak.commands.doctor import doctor
from onnxtweak.commands.dry_run import forecast
from onnxtweak.commands.dump import dump
from onnxtweak.commands.evaluate import evaluate
from onnxtweak.commands.fit import fit
from onnxtweak.commands.init import init
from onnxtweak.commands.inspect import inspect
from onnxtweak.commands.join import join
from onnxtweak.commands.report import report
from onnxtweak.commands.retrain import retrain
from onnxtweak.commands.revert import revert
from onnxtweak.commands.run import plan, run
from onnxtweak.commands.score import score
from onnxtweak.commands.slot import slot
from onnxtweak.commands.verify import verify

__all__ = [
    "apply",
    "augment",
    "compare",
    "demo",
    "diff",
    "doctor",
    "dump",
    "evaluate",
    "fit",
    "forecast",
    "init",
    "inspect",
    "join",
    "plan",
    "report",
    "retrain",
    "revert",
    "run",
    "score",
    "slot",
    "verify",
]
