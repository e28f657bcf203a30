"""What is added to the logits, in each of its forms?

form       synapses, linear weights, an MLP: what each adds
by_place   weights of each place's own, beside one of these
tweak      a patch with its neurons and its base, and the forms by name
"""

from onnxtweak.patch.by_place import ByPlace
from onnxtweak.patch.form import DensePatch, Linear, Mlp, Patch, Synapses, at_columns
from onnxtweak.patch.tweak import FORMS, Tweak, bias_patch, form_of, no_patch

__all__ = [
    "FORMS",
    "ByPlace",
    "DensePatch",
    "Linear",
    "Mlp",
    "Patch",
    "Synapses",
    "Tweak",
    "at_columns",
    "bias_patch",
    "form_of",
    "no_patch",
]
