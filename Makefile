# The two commands of the README are `make demo` and `make test`; the rest are small habits.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TARGET  := x86_64-unknown-linux-gnu
# What ships and what the real-component tests run: static, stripped.
DIST    := target/$(TARGET)/release
# Tests and the demo run these binaries; `make e2e BIN_DIR=target/debug` is quicker while you work.
BIN_DIR ?= $(DIST)

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: deps
deps: ## system packages that build and tests need (Debian 12, root)
	@hack/install-deps.sh

.PHONY: tools
tools: deps ## the real components (kube-apiserver, etcd 3.5/3.6/3.7, versitygw, helm …), built once
	@hack/build-tools.sh

.PHONY: gen
gen: ## writes the generated files (CRDs, reference tables)
	@cargo run -q -p lifeboat-crds --bin crdgen charts/lifeboat/templates/crds docs/reference
	@LIFEBOAT_WRITE_SCHEMA=1 cargo test -q -p lifeboat-agent --bin lifeboat schema_tests

.PHONY: check
check: deps ## formatting and lints
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: unit
unit: deps ## the tests that need no other program
	cargo test --workspace --exclude lifeboat-e2e --exclude lifeboat-testbed --locked --lib --bins

.PHONY: model
model: deps ## the restore protocol explored beyond the default bounds (about 40 minutes of two cores, 1 GiB; docs/restore-protocol.md)
	nice -n 10 cargo test -p lifeboat-protocol --locked --test beyond -- --ignored --nocapture --test-threads=1

.PHONY: dist
dist: deps ## static binaries, with the commit in their version
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target $(TARGET) -p lifeboat-operator -p lifeboat-agent

.PHONY: images
images: dist ## the two images as reproducible archives in target/images
	@hack/build-tools.sh etcd-3.5 etcd-3.6 etcd-3.7
	@hack/images.sh

.PHONY: e2e
e2e: tools $(if $(filter $(DIST),$(BIN_DIR)),dist) ## tests against the real components (process tier)
	LIFEBOAT_BIN_DIR=$(abspath $(BIN_DIR)) hack/process-tier.sh

.PHONY: e2e-masters
e2e-masters: tools $(if $(filter $(DIST),$(BIN_DIR)),dist) ## the tools on a master with each of etcd 3.5, 3.6 and 3.7 (long; `make e2e` runs each test with one)
	for line in 3.5 3.6 3.7; do \
	  LIFEBOAT_ETCD_LINE=$$line LIFEBOAT_BIN_DIR=$(abspath $(BIN_DIR)) hack/process-tier.sh masters_restore masters_reinitialize masters_killed masters_by_hand masters_kublr masters_apart masters_coordinated restore_by_object || exit 1; \
	done

.PHONY: restore-matrix
restore-matrix: tools $(if $(filter $(DIST),$(BIN_DIR)),dist) ## restores with something going wrong at every step (about 20 minutes); writes docs/verification.md
	LIFEBOAT_MATRIX=whole LIFEBOAT_BIN_DIR=$(abspath $(BIN_DIR)) hack/process-tier.sh restore_matrix

.PHONY: comparisons
comparisons: tools ## 200 backups compared with the members on each line of etcd, while they write and compact: no false alarm
	LIFEBOAT_COMPARISONS=200 cargo test -p lifeboat-agent --locked --bin lifeboat writes_and_compactions_are_never_taken_for_divergence

.PHONY: test
test: ## everything: lints, unit tests, storage against a real S3 server, the process tier; prints totals
	@hack/test.sh

.PHONY: bench
bench: tools dist ## Lifeboat beside etcdctl, medians of one run (about 40 minutes); BENCH_ARGS="--help" says more
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --release --locked --target $(TARGET) \
	  -p lifeboat-operator -p lifeboat-agent -p lifeboat-bench
	LIFEBOAT_BIN_DIR=$(abspath $(DIST)) $(DIST)/lifeboat-bench $(BENCH_ARGS)

.PHONY: demo
demo: ## a real control plane with Lifeboat at work; left running
	@hack/demo.sh up

.PHONY: demo-down
demo-down: ## ends the demo
	@hack/demo.sh down

.PHONY: cluster-up
cluster-up: tools images ## three masters that kubeadm set up, under systemd on this host (cluster tier; docs/testing.md)
	@hack/cluster.sh up

.PHONY: cluster-down
cluster-down: ## ends the cluster and removes its disks
	@hack/cluster.sh down

.PHONY: cluster-test
cluster-test: tools images ## Lifeboat installed by Helm on a new cluster, and its journeys; JOURNEYS="backup …" runs some
	@hack/cluster.sh test $(JOURNEYS)

.PHONY: deny
deny: ## licences and sources of dependencies
	cargo deny --locked check licenses bans sources
