"""How is a tweak added to a model, and how is it removed again?

patch_nodes     the nodes that are added
positions       the nodes that are added where there are scores at every position
piece_builder   how they are built, with onnx-graphsurgeon
graft           where in a model a tweak goes
splice          a tweak spliced into a model, everything else unchanged
expose          hidden tensors made outputs, unneeded nodes removed
slot            a slot that takes another tweak in each call
revert          tweaks removed again, byte for byte
diff            every difference between two models
digests         digests of what a tweak added, and whether they still hold
record          a tweak rebuilt from the metadata of a tweaked model
tweak_file      a tweak in a file of its own
neighborhood    the graph around a tweak, for a picture
"""
