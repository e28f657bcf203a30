"""What is added to a model, and how does it come off again?

patch_nodes     the nodes that are added, built by onnx-graphsurgeon
splice          a tweak put into a model, everything else left as it is
expose          hidden tensors made outputs, and what is not needed cut off
slot            a place that takes another tweak in each call
revert          tweaks taken off again, byte for byte
diff            every difference between two models
record          what a tweaked model still knows of the tweak inside
tweak_file      a tweak in a file of its own
"""
