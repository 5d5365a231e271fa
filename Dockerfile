# Lectern's server and command line: non-root, for a read-only root file system, without a shell.
#
#   docker build --target cpu -t lectern .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges -m 2g -p 127.0.0.1:8001:8001 \
#     -v /path/to/models:/models:ro lectern --model=smollm2=/models/SmolLM2-135M-Instruct.Q4_1.gguf
#
# --build-arg BAKE_MODEL=1 puts the default model into /models of the image. It serves int8; the fp32
# reference (--numerics=f32) needs half a gigabyte of LibTorch and is left out. deploy/image builds and
# tests this without Docker.
#
# Target cuda is the same with liblectern_cuda.so and --device=cuda. It builds without a GPU, runs with
# NVIDIA's container toolkit (docker run --gpus=all), and has never run on one: docs/guides/gpu.md.
#
# For use in production, pin BASE by digest.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
ENV LECTERN_DEPS_DIR=/deps CCACHE_DIR=/ccache CCACHE_BASEDIR=/src CCACHE_NOHASHDIR=1 \
    CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime
COPY cmake/setup cmake/setup
RUN cmake/setup build protos
# ccache tells compilations in other languages apart.
ENV LANG=C.UTF-8
COPY . .
RUN cmake --preset release -DLECTERN_BUILD_TESTS=OFF -DLECTERN_BUILD_BENCHES=OFF -DLECTERN_BUILD_F32=OFF \
 && cmake --build build/release --target lectern-server lectern \
 && deploy/image/collect /image build/release/bin/lectern-server build/release/bin/lectern
ARG BAKE_MODEL=0
RUN mkdir -p /image/models && if [ "$BAKE_MODEL" = 1 ]; then \
      cmake/setup model && cp /deps/models/SmolLM2-135M-Instruct.Q4_1.gguf /image/models/; fi

FROM build AS build-cuda
RUN cmake/setup cuda
RUN cmake --preset release -DLECTERN_BUILD_CUDA=ON && cmake --build build/release --target lectern_cuda \
 && install -m 644 build/release/bin/liblectern_cuda.so /image/usr/local/bin/ \
 && install -m 644 /deps/cuda/nvidia_cuda_runtime-*.dist-info/licenses/License.txt /image/usr/local/share/doc/lectern/cuda_license

FROM scratch AS cuda
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lectern" \
      org.opencontainers.image.description="Answers questions over long documents, with evidence, on an NVIDIA GPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-cuda /image /
# The driver's library, which the container toolkit adds.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute
USER 65532:65532
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/usr/local/bin/lectern", "status", "--serving", "--timeout=4"]
ENTRYPOINT ["/usr/local/bin/lectern-server", "--device=cuda", "--listen=0.0.0.0:8001", "--metrics_listen=0.0.0.0:8002"]

FROM scratch AS cpu
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lectern" \
      org.opencontainers.image.description="Answers questions over long documents, with evidence" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
USER 65532:65532
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/usr/local/bin/lectern", "status", "--serving", "--timeout=4"]
# Inside a container 127.0.0.1 would be out of reach: who may connect is decided outside.
ENTRYPOINT ["/usr/local/bin/lectern-server", "--listen=0.0.0.0:8001", "--metrics_listen=0.0.0.0:8002"]
