# docker build -t xnorm .                                                  DALI's build for CUDA 11, torch from the default index
# docker build -t xnorm --build-arg EXTRA=cuda130 .                        DALI's build for CUDA 13
# docker build -t xnorm --build-arg EXTRA=extract --build-arg TORCH_INDEX=<index of CPU wheels> .    a CPU alone, small, without DALI
# docker run --rm --gpus all --shm-size 8g -v "$PWD/data:/work/data" -v "$PWD/runs:/work/runs" xnorm xnorm-train -c configs/xnorm.yaml
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG EXTRA=cuda110
ARG TORCH_INDEX=
WORKDIR /xnorm
COPY . .
# The wheels bring CUDA's libraries along; the host gives its driver by --gpus.
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; fi \
    && pip install --no-cache-dir ".[extract,${EXTRA}]"
WORKDIR /work
CMD ["xnorm-train", "--help"]
