# Tethys in a container: one program without libraries, no shell, no privileges (uid 999).
#
#   docker build -t tethys .
#
# A program that is compiled already, in an image that has it as /out/tethys, is taken by
# `--build-arg PROGRAM=IMAGE` instead of compiling one here (docs/containers.md).
ARG PROGRAM=compiled

FROM rust:1.95-slim-bookworm AS compiled
# Kafka's C library wants make and a C++ compiler, its TLS (the feature kafka-tls) perl.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Linked statically, the C library too; the folders of cargo are kept from build to build.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo rustc --locked --release --package node --features changefeed/kafka-tls --bin tethys \
        -- -C target-feature=+crt-static \
    && mkdir /out && cp target/release/tethys /out/tethys && strip --strip-debug /out/tethys

FROM ${PROGRAM} AS program

FROM scratch
COPY docker/image/etc /etc
COPY docker/image/usr /usr
COPY --from=program /out/tethys /usr/local/bin/tethys
# Volumes of Cassandra's and ScyllaDB's images lead here, too.
COPY --chown=999:999 docker/image/var /var
USER 999:999
ENV TETHYS_CONFIG=/etc/tethys/tethys.yaml
EXPOSE 7000 9042 9180 19042
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=5s --start-period=60s --retries=3 CMD ["tethys", "health"]
ENTRYPOINT ["tethys"]
