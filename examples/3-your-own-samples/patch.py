"""The commands as Python functions: join and retrain, compared on the same samples."""

import onnxtweak

MODEL = "../../models/digits_cnn3.onnx"
SAMPLES = {"data": "samples.py:noisy", "test": "samples.py:noisy_test"}

for name, method in {"join": onnxtweak.join, "retrain": onnxtweak.retrain}.items():
    made = method(MODEL, **SAMPLES, worst=2, output=f"out/{name}.onnx", force=True)
    before, after, bias = made.before, made.after, made.bias_control
    print(
        f"{name}: classes {', '.join(made.targets)}: {before.target:.3f} -> {after.target:.3f} "
        f"(bias alone {bias.target:.3f}), overall {before.overall:.3f} -> {after.overall:.3f}"
    )
