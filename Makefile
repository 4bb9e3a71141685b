# Windlass. Every target works on a machine with Go and make unless it says otherwise.

TAGS    := hashicorpmetrics
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOFLAGS := -tags=$(TAGS) -buildvcs=false
export GOFLAGS

# The race detector and the NVML build need a C compiler; nothing else does.
CC_OK := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo yes)

.PHONY: demo cluster gate build test check verify bench bench-peers test-clients attacks conformance chaos chaos-quick nft sim teeth compat soak gen fmt lint race vet nvml clean

demo: build ## a real inference result, start to end (PROMPT="..." to choose the story)
	@sh scripts/demo.sh

cluster: build ## three coordinators and an agent on this machine, until Ctrl-C
	bin/windlass dev --coordinators 3

build: ## bin/windlass, static; bin/windlass-gpu with NVML where a C compiler exists
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/windlass ./cmd/windlass
ifeq ($(CC_OK),yes)
	@$(MAKE) --no-print-directory nvml
endif

nvml:
	CGO_ENABLED=1 CGO_CFLAGS="-O2 -Wno-deprecated-declarations" go build -trimpath -ldflags '$(LDFLAGS)' -o bin/windlass-gpu ./cmd/windlass

test: ## all tests that need Go only
	CGO_ENABLED=0 go test ./...

check: fmt vet lint race ## format, vet, lint, race detector

fmt:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi

vet:
	CGO_ENABLED=0 go vet ./...
	CGO_ENABLED=0 go vet -tags=$(TAGS),clients ./...
	CGO_ENABLED=0 go vet -tags=$(TAGS),chaos ./coordinator/consensus ./cmd/windlass
	CGO_ENABLED=0 go vet -tags=$(TAGS),compat ./scripts/compat
	CGO_ENABLED=0 go vet -tags=$(TAGS),conformance ./scripts/conformance

lint:
	CGO_ENABLED=0 go test ./scripts/lint

race:
	CGO_ENABLED=1 CGO_CFLAGS="-O2 -Wno-deprecated-declarations" go test -race ./...

test-clients: ## what needs Python and Node, installed first where apt can
	@command -v python3 >/dev/null && command -v npm >/dev/null && python3 -c "import venv" || { apt-get update -q && apt-get install -y -q python3 python3-venv nodejs npm; }
	CGO_ENABLED=0 go test -tags=$(TAGS),clients ./inference/command ./coordinator/blob ./coordinator/webhook ./scripts/sdk

bin/windlass-chaos: FORCE # the same program with the failpoints of the tag chaos
	CGO_ENABLED=0 go build -tags=$(TAGS),chaos -trimpath -ldflags '$(LDFLAGS)' -o bin/windlass-chaos ./cmd/windlass

FORCE:

nft: # the kernel's network for chaos where this machine can have it; without, a proxy is used
	@command -v nft >/dev/null && command -v ip >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && apt-get install -y -q nftables iproute2; } || echo "no nftables here: chaos uses a proxy"

chaos: bin/windlass-chaos nft ## the faults of docs/failure-model.md with real processes
	go run ./scripts/chaos -set all

chaos-quick: bin/windlass-chaos nft # those that fit into three minutes
	go run ./scripts/chaos -set quick

soak: bin/windlass-chaos nft ## the same for SOAK (8h), in another order each round
	go run ./scripts/chaos -set all -soak $(or $(SOAK),8h)

compat: ## this version and the one before in one cluster, rolling, under load
	CGO_ENABLED=0 go test -tags=$(TAGS),compat -count=1 ./scripts/compat

sim: ## the replicated core in virtual time for SIM (90s), from SEED
	CGO_ENABLED=0 go run ./scripts/sim -for $(or $(SIM),90s) -seed $(or $(SEED),1)

teeth: ## bugs that the tests must catch, one after the other
	CGO_ENABLED=0 go run ./scripts/teeth

attacks: build ## tries to break into a coordinator; each attack by name
	CGO_ENABLED=0 go run ./scripts/attacks

conformance: ## every item of the seeds, against real processes
	CGO_ENABLED=0 go test -tags=$(TAGS),conformance -count=1 ./scripts/conformance

gate: build ## a job costs no more processor time than it did
	CGO_ENABLED=0 go run ./scripts/bench -gate

verify: chaos-quick sim teeth compat gate ## what CI runs on top of the tests

bench: build ## costs per job; see docs/performance.md
	go run ./scripts/bench

bench-peers: build ## beside other queues at the same durability; installs them where apt can
	cd scripts/bench/peers && GOFLAGS= CGO_ENABLED=0 go run . -binary ../../../bin/windlass $(ARGS)

gen: ## generated code; leaves a clean tree
	go run ./scripts/gen

clean:
	rm -rf bin .bench
