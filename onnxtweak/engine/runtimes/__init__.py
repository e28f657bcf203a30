"""What does another runtime compute from the same file? A file for each, imported when it is asked for.

Each has `run(model, output, batches)`, which gives the values of one output for each batch, and `VERSION`.

run_apart    a runtime in a process of its own
onnxruntime  ONNX Runtime as others run it, with all its own settings
onnx         the reference that ONNX defines its operators by: slow, and everywhere
openvino     OpenVINO, on the CPU
opencv       OpenCV's module for neural networks
"""
