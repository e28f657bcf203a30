# onnxtweak for CPUs. From the root of a checkout: docker build -f integrations/docker/cpu.Dockerfile -t onnxtweak .
# Then: docker run --rm -v "$PWD:/work" onnxtweak fit model.onnx -d held-out.npz -t cat -o tweaked.onnx
FROM python:3.12-slim
COPY pyproject.toml README.md LICENSE /src/
COPY models/digits_cnn3.onnx models/digits.npz models/README.md /src/models/
COPY onnxtweak /src/onnxtweak
RUN python -m pip install --no-cache-dir "/src[cpu,images,parquet]" && rm -r /src
# Compiled kernels and temporary files; /work is the folder of whoever runs it.
ENV NUMBA_CACHE_DIR=/tmp/numba
RUN useradd --create-home --uid 1000 onnxtweak
USER 1000
WORKDIR /work
ENTRYPOINT ["onnxtweak"]
CMD ["--help"]
