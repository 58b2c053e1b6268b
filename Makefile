# make demo       install what is missing, build, start a cluster with three pods, show them
# make demo-down  stop that cluster and remove everything it made
# make test       install what is missing, run every test
# make test-vm    what touches cgroups, AppArmor and systemd, in a virtual machine that has them (an hour)
# make unit       the tests that need neither root nor a cluster
# make check      what CI checks beside tests: format, lints, the graph of crates, rings of files, the pages
# make fmt        format the code
# make lint       lints alone, warnings denied
# make install    the release binary into $(DESTDIR)$(PREFIX)/bin
# make package    the Debian package, its bill of materials and checksums, in target/package
# make bench      figures of a release build
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

.PHONY: demo demo-down clean-demo test test-vm unit check fmt lint install package bench setup release

PREFIX ?= /usr/local

setup:
	@scripts/setup

release: setup
	@cargo build --release --locked --bin berth

demo: release
	@scripts/demo

demo-down clean-demo:
	@scripts/demo-down

test: setup
	@scripts/test

test-vm: setup
	@scripts/test-vm

unit:
	@cargo test --workspace --lib --locked

fmt:
	@cargo fmt --all

lint:
	@cargo clippy --workspace --all-targets --locked -- -D warnings

check: lint
	@cargo fmt --all --check
	@scripts/crate-graph
	@scripts/file-rings
	@scripts/doc-files

install: release
	@install -D -m 755 target/release/berth $(DESTDIR)$(PREFIX)/bin/berth

package: release
	@scripts/package

bench: release
	@scripts/bench
	@scripts/bench-cri
	@scripts/bench-api
	@cargo bench --quiet --locked -p berth-rules --bench admission
