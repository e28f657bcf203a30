"""How do models come from the disk, and how do results get there?

model_file      a model, parsed with its external data left where it is
external_data   the other files that a model keeps its weights in
output_file     outputs: whole or absent, never in place of a file they are made from
protobuf_edit   edits byte by byte, so that what is not touched stays as it was written
tweak_metadata  the record of the tweaks inside a model
"""
