# make demo       install what is missing, build, start a cluster with three pods, show them
# make demo-down  stop that cluster and remove everything it made
# make test       install what is missing, run every test
# make bench      figures of a release build
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

.PHONY: demo demo-down clean-demo test bench setup release

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

bench: release
	@scripts/bench
	@scripts/bench-cri
	@scripts/bench-api
	@cargo bench --quiet --locked -p berth-rules --bench admission
