"""The ONNX file: what is in it, what of it can be watched, and how it is edited. Knows protobuf, no data."""
