"""onnxtweak: better accuracy for chosen classes of a trained ONNX classifier, without retraining it."""

__version__ = "0.1.0"
