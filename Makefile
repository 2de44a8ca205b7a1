# The commands of a newcomer. Each one is a short script that can be read and called by itself.
#
# PROFILE=release|dev   what `up` and `demo-monitor` build (release)
# AGENT_OS_HOME=DIR     data directory of `up`, `down`, `env` (.agent-os)
# PORT=N                port of the gateway for `up` (18800; 0 takes a free one)
# BUILD=no              take the programs as they are in target/
# ONLY='doors fuzz'     sections of `test-deep` (all)

.PHONY: help up down env demo-monitor check test test-deep test-vm bench generate

help:
	@echo 'make up            build, start, deploy the Monitor agent with a first watch'
	@echo 'make down          stop the server that make up started'
	@echo 'make env           print the exports for a shell: eval "$$(make -s env)"'
	@echo 'make demo-monitor  a story in a directory of its own: changes, diffs, audit, kill -9'
	@echo 'make test          build and run all tests'
	@echo 'make test-deep     what is too long for every day: storms by many seeds, attackers, a fuzzer (ONLY=fuzz)'
	@echo 'make test-vm       cgroup version 2 and AppArmor, in a virtual machine with a kernel that has them'
	@echo 'make check         formatting, lints, generated files'
	@echo 'make bench         figures of this machine, with their goals'
	@echo 'make generate      write the generated files again'

up:
	@scripts/up.sh

down:
	@scripts/down.sh

env:
	@scripts/env.sh

demo-monitor:
	@scripts/demo-monitor.sh

check:
	@scripts/check.sh

test:
	@scripts/test.sh

test-deep:
	@scripts/test-deep.sh

test-vm:
	@scripts/test-vm.sh

bench:
	@scripts/bench.sh

generate:
	@cargo xtask gen
