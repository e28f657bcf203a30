"""How are model files read, and how are results written?

model_file      a model, parsed with its external data left in place
foreign_files   what is no ONNX model, and how to make one of it
load_failures   why ONNX Runtime does not load a model
external_data   the other files in which a model stores its weights
output_paths    may an output be written there?
output_file     outputs: all of a command's complete, or none
protobuf_edit   protobuf scanned and edited byte by byte, so that the rest stays as it was written
tweak_metadata  the record of the tweaks inside a model
"""
