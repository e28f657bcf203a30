"""Which class does the model's own output show, and how does that follow from the tensor a patch is added to?

answered    the answer, settled on a few samples that the model takes together or one at a time
at_positions  the answer of a model that decides at every position
detections  where a detector's output shows the scores and boxes of its anchors
number_cut  above which value a single number means class 1
observed  a tensor and the outputs that depend on it, on real samples
probing   a tail asked about numbers made up to ask it
tail      the tensor to patch, settled by asking what the model does after it
several_labels  the answer of a model that marks several labels at once
shown_boxes  the boxes and scores that a detector's outputs show
shown     the classes that a model's outputs show, for a batch or a whole view
"""
