# Lectern's server, non-root, for a read-only root file system:
#
#   docker build -t lectern .
#   docker run --read-only --cap-drop=ALL -p 127.0.0.1:8001:8001 -v /path/to/models:/models:ro lectern --model=smollm2=/models/SmolLM2-135M-Instruct.Q4_1.gguf
#
# --build-arg BAKE_MODEL=1 puts the default model into /models of the image.
#
# Not built and not run so far: there was no container engine where it was written. For use in
# production, pin BASE by digest.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
ENV LECTERN_DEPS_DIR=/deps
COPY cmake/setup cmake/setup
RUN cmake/setup
COPY . .
RUN cmake --preset release -DLECTERN_BUILD_TESTS=OFF -DLECTERN_BUILD_BENCHES=OFF \
 && cmake --build build/release --target lectern-server lectern lectern_f32 \
 && strip build/release/bin/lectern-server build/release/bin/lectern
ARG BAKE_MODEL=0
RUN mkdir -p /models && if [ "$BAKE_MODEL" = 1 ]; then cp /deps/models/*.gguf /models/; fi

FROM ${BASE} AS runtime
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \
      libgrpc++1.51 libprotobuf32 libabsl20220623 libssl3 libprometheus-cpp-core1.0 libcivetweb1 \
      libpcre2-8-0 libutf8proc2 libgomp1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
# liblectern_f32.so, loaded for fp32 numerics alone, finds LibTorch where it was linked with it.
COPY --from=build /deps/torch/torch/lib /deps/torch/torch/lib
COPY --from=build /deps/torch/nvidia /deps/torch/nvidia
COPY --from=build /deps/torch/torch-2.11.0.dist-info /deps/torch/torch-2.11.0.dist-info
COPY --from=build /src/build/release/bin/lectern-server /src/build/release/bin/lectern /usr/local/bin/
COPY --from=build /src/build/release/bin/liblectern_f32.so /usr/local/lib/
COPY --from=build /src/LICENSE /src/THIRD_PARTY.md /usr/local/share/doc/lectern/
COPY --from=build /models /models
USER 65532:65532
EXPOSE 8001 8002
# Inside a container 127.0.0.1 would be out of reach: who may connect is decided outside.
ENTRYPOINT ["lectern-server", "--listen=0.0.0.0:8001", "--metrics_listen=0.0.0.0:8002"]
