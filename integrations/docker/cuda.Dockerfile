# onnxtweak for NVIDIA GPUs: docker build -f integrations/docker/cuda.Dockerfile -t onnxtweak:cuda .
# Then: docker run --rm --gpus all -v "$PWD:/work" onnxtweak:cuda fit model.onnx -d held-out.npz -t cat -o tweaked.onnx
# CUDA 13 and cuDNN come as Python packages of the extra `gpu`; the host has the driver and NVIDIA's container toolkit.
FROM python:3.12-slim
COPY pyproject.toml README.md LICENSE /src/
COPY models/digits_cnn3.onnx models/digits.npz models/README.md /src/models/
COPY onnxtweak /src/onnxtweak
RUN python -m pip install --no-cache-dir "/src[gpu,images,parquet]" && rm -r /src
# Compiled kernels and temporary files; /work is the folder of whoever runs it.
ENV NUMBA_CACHE_DIR=/tmp/numba CUPY_CACHE_DIR=/tmp/cupy
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 1000 onnxtweak
USER 1000
WORKDIR /work
ENTRYPOINT ["onnxtweak"]
CMD ["--help"]
