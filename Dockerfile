# The images for those who build with a container engine. `make images` makes the same ones, file for file, without one.
#
#   docker build --target operator --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t …/lifeboat-operator:0.1.0 .
#   docker build --target agent    --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t …/lifeboat-agent:0.1.0 .

# As rust-toolchain.toml; Debian 12 as everything else here.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates protobuf-compiler libprotobuf-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# `.git` is not part of the context; the binaries say what they are all the same.
ARG COMMIT=unknown
ARG TARGET=x86_64-unknown-linux-gnu
RUN LIFEBOAT_GIT_COMMIT=$COMMIT RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target $TARGET -p lifeboat-operator -p lifeboat-agent \
    && install -D -m 0755 target/$TARGET/release/lifeboat-operator /operator/usr/local/bin/lifeboat-operator \
    && install -D -m 0755 target/$TARGET/release/lifeboat /agent/usr/local/bin/lifeboat
RUN install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /base/etc/ssl/certs/ca-certificates.crt \
    && printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > /base/etc/passwd \
    && printf 'root:x:0:\nnonroot:x:65532:\n' > /base/etc/group

# etcd and etcdutl of every minor version that is supported, from the Go modules that tests use too.
FROM golang:1.26-bookworm AS tools
WORKDIR /src
COPY hack/build-tools.sh hack/
COPY e2e/testbed/tools e2e/testbed/tools
RUN LIFEBOAT_TESTBED=/built hack/build-tools.sh etcd-3.5 etcd-3.6 etcd-3.7 \
    && for line in 3.5 3.6 3.7; do for tool in etcd etcdutl; do \
      install -D -m 0755 /built/bin/$line/$tool /tools/usr/local/lib/lifeboat/tools/$line/$tool; done; done

# Nothing but CA certificates and users: there is no shell to be had in either image.
FROM scratch AS base
COPY --from=build /base/ /
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /
LABEL org.opencontainers.image.licenses=Apache-2.0

FROM base AS operator
COPY --from=build /operator/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/lifeboat-operator"]

FROM base AS agent
COPY --from=tools /tools/ /
COPY --from=build /agent/ /
# Root: the chart's agent reads etcd's client key. Nothing else of root's powers is left to it there.
USER 0:0
ENTRYPOINT ["/usr/local/bin/lifeboat"]
