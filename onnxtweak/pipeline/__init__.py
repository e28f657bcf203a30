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

from onnxtweak.pipeline.augment import augment
from onnxtweak.pipeline.begin import init
from onnxtweak.pipeline.compare import compare
from onnxtweak.pipeline.demo import demo
from onnxtweak.pipeline.doctor import doctor
from onnxtweak.pipeline.evaluate import evaluate
from onnxtweak.pipeline.files import apply, inspect
from onnxtweak.pipeline.fit import fit
from onnxtweak.pipeline.forecast import forecast
from onnxtweak.pipeline.join import join
from onnxtweak.pipeline.report import report
from onnxtweak.pipeline.retrain import retrain
from onnxtweak.pipeline.run import plan, run
from onnxtweak.pipeline.slot import slot
from onnxtweak.pipeline.tables import dump, score
from onnxtweak.pipeline.undo import diff, revert
from onnxtweak.pipeline.verify import verify

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
