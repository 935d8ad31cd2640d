# Tollgate. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

ENVOY_VERSION  := 1.40.0
GOLANGCI       := v2.15.0
BUF            := v1.75.0
GEN_GO_GRPC    := v1.6.2
TOOLS          := $(CURDIR)/.tools
ENVOY_WHEEL    := $(TOOLS)/envoy/envoy/_bin/envoy
BIN            := $(CURDIR)/bin
TOLLGATE       := $(BIN)/tollgate
VERSION        := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PYTHON         ?= python3
# The race detector and the real servers share two cores in CI: few packages at a time.
TEST_PARALLEL  ?= 2
TEST_TIMEOUT   ?= 20m
FUZZ_TIME      ?= 1m
BENCH_OUT      ?= bench.txt

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/tollgate
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl)" >&2; exit 1; }
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(TOLLGATE) ./cmd/tollgate

.PHONY: run
run: build envoy ## run everything on this machine: embedded defaults, the real Envoy, two sample APIs
	$(TOLLGATE) dev $(RUN_FLAGS)

.PHONY: envoy
envoy: ## get Envoy 1.40.0 unless one on PATH is new enough
	@PYTHON="$(PYTHON)" deploy/get-envoy.sh "$(ENVOY_VERSION)" "$(TOOLS)/envoy"

.PHONY: postgres
postgres: ## make sure that the PostgreSQL server binaries for the tests are there
	@deploy/get-postgres.sh

.PHONY: redis
redis: ## make sure that the Redis server for the tests is there
	@deploy/get-redis.sh

.PHONY: test
test: envoy postgres redis ## every test that fits CI, with the real Envoy, PostgreSQL and Redis
	go test -p $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

.PHONY: test-race
test-race: envoy postgres redis ## the same under the race detector
	go test -race -p $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

.PHONY: test-short
test-short: ## the tests that need nothing but Go
	go test -tags short -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

.PHONY: lint
lint: $(BIN)/golangci-lint-$(GOLANGCI) ## gofmt, vet, golangci-lint; generated files up to date
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	go vet ./...
	go vet -tags short ./...
	go vet -tags faults ./...
	$(BIN)/golangci-lint-$(GOLANGCI) run ./...
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code --stat -- docs xds/testdata envoy keymanager/rpc || { echo "generated files differ: commit what 'make generate' wrote" >&2; exit 1; }

# golangci-lint is built with the Go of this machine, into a folder git ignores.
$(BIN)/golangci-lint-$(GOLANGCI):
	@mkdir -p $(BIN)/lint.tmp
	GOBIN=$(BIN)/lint.tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(BIN)/lint.tmp/golangci-lint $@ && rmdir $(BIN)/lint.tmp

.PHONY: generate
generate: ## rewrite golden files, generated code and the reference in docs
	go generate ./...

.PHONY: protobuf
protobuf: $(BIN)/buf-$(BUF) $(BIN)/protoc-gen-go-grpc-$(GEN_GO_GRPC)
	cd keymanager/rpc && PATH="$(BIN):$$PATH" $(BIN)/buf-$(BUF) generate --template \
	  '{"version":"v2","plugins":[{"local":["go","run","google.golang.org/protobuf/cmd/protoc-gen-go"],"out":".","opt":"module=tollgate/keymanager/rpc"},{"local":"protoc-gen-go-grpc-$(GEN_GO_GRPC)","out":".","opt":"module=tollgate/keymanager/rpc"}]}'

$(BIN)/buf-$(BUF):
	@mkdir -p $(BIN)/buf.tmp
	GOBIN=$(BIN)/buf.tmp go install github.com/bufbuild/buf/cmd/buf@$(BUF)
	mv $(BIN)/buf.tmp/buf $@ && rmdir $(BIN)/buf.tmp

$(BIN)/protoc-gen-go-grpc-$(GEN_GO_GRPC):
	@mkdir -p $(BIN)/grpc.tmp
	GOBIN=$(BIN)/grpc.tmp go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(GEN_GO_GRPC)
	mv $(BIN)/grpc.tmp/protoc-gen-go-grpc $@ && rmdir $(BIN)/grpc.tmp

.PHONY: bench
bench: envoy ## measure; writes bench.txt (docs/performance.md explains it)
	deploy/bench.sh $(BENCH_OUT)

.PHONY: faults
faults: envoy postgres redis ## the whole fault matrix (up to 45 minutes); writes docs/faults.md
	deploy/faults.sh docs/faults.md

.PHONY: soak
soak: envoy postgres redis ## a whole fleet under load, changes and restarts for SOAK_MINUTES (default 30); writes docs/soak.md
	deploy/soak.sh docs/soak

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZ_TIME (default 1m)
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -tags short -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; \
	    go test -tags short -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) $$pkg; \
	  done; \
	done

.PHONY: clean
clean: ## remove what was built, and the state of make run
	rm -rf $(BIN) .tollgate
