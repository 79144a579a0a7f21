# Build, test and check Fairlead. `make` alone builds everything into bin/.

GO       ?= go
# A semantic version: the newest tag v1.2.3, else a development version.
VERSION  ?= $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null)),0.1.0-dev)
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
ADAPTERS := $(notdir $(patsubst %/main.go,%,$(wildcard plugins/*/main.go)))
# Folder with the scripts that run real FTP, mail and queue servers for tests.
SERVERS  := $(or $(FAIRLEAD_SERVERS),../shared/servers)
TOOLS    := $(CURDIR)/bin/tools
PROTOS   := sdk/proto/adapter.proto runtime/ledger/ledgerpb/ledger.proto runtime/transport/peerpb/peer.proto
FUZZTIME ?= 20s
CHAOS_ROUNDS ?= 20
SEEDS    ?= 100000
SOAK     ?= 30m

GOLANGCI_LINT      := v2.15.0
PROTOC_GEN_GO      := v1.36.12
PROTOC_GEN_GO_GRPC := v1.6.2

# Static binaries without the build machine's paths. The version comes from here and
# not from go's own stamp, which fails in a checkout that another user owns.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'

.DEFAULT_GOAL := all
.PHONY: all demo test test-short bench lint generate fuzz chaos soak clean servers bin/fairlead

# all: bin/fairlead and one bin/adapters/fairlead-adapter-NAME per folder in plugins/
all: bin/fairlead $(ADAPTERS:%=bin/adapters/fairlead-adapter-%)

# Go knows itself what is up to date, so these always run.
bin/fairlead:
	$(BUILD) -o $@ ./cmd/fairlead

bin/adapters/fairlead-adapter-%: FORCE
	$(BUILD) -o $@ ./plugins/$*

.PHONY: FORCE
FORCE:

# demo: three nodes, real protocols, a killed owner, and a computed verdict
demo: all
	bin/fairlead demo

# test: every test; the integration tests run the binaries that `all` builds, and one
# package after the other: one of them keeps every core busy on purpose
test: all servers
	$(GO) test -timeout 30m $$($(GO) list ./... | grep -v /integration)
	$(GO) test -timeout 30m -p 1 ./integration/...

# test-short: what needs no other program and no root
test-short:
	$(GO) test -short -timeout 10m ./...

# servers: unpack the real servers that tests use, where that is possible
servers:
	@if [ "$$(id -u)" = 0 ] && [ -x "$(SERVERS)/install" ]; then \
		"$(SERVERS)/install" vsftpd proftpd pureftpd pyftpd dovecot nats sshd; \
	else \
		echo "servers: not root, or no scripts in $(SERVERS): tests against real servers are skipped if those are missing"; \
	fi

# bench: every benchmark, with allocations
bench: all
	$(GO) test -run '^$$' -bench . -benchmem -timeout 90m ./...

# lint: golangci-lint with .golangci.yml; the first run compiles it, which takes minutes
lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT)
	$< run ./...

# generate: Go code from the protos; needs protoc (Debian: protobuf-compiler)
generate: $(TOOLS)/protoc-gen-go-$(PROTOC_GEN_GO) $(TOOLS)/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC)
	protoc -I . \
		--plugin=protoc-gen-go=$(TOOLS)/protoc-gen-go-$(PROTOC_GEN_GO) \
		--plugin=protoc-gen-go-grpc=$(TOOLS)/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC) \
		--go_out=. --go_opt=paths=source_relative \
		--go-grpc_out=. --go-grpc_opt=paths=source_relative \
		$(PROTOS)

# fuzz: every fuzz target for FUZZTIME (20s)
fuzz:
	@set -e; grep -rE --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file func; do \
		echo "fuzz $$(dirname "$$file") $${func#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")"; \
	done

# chaos: SEEDS (100000) simulated schedules, then owners hurt under load, CHAOS_ROUNDS (20) times
chaos: all servers
	FAIRLEAD_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 600m -run TestSchedules ./runtime/simulation
	CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(GO) test -count=1 -timeout 120m -run 'ThroughTheDeath|NeverVisible' -v ./integration
	CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(GO) test -count=1 -timeout 240m -v ./integration/netns

# soak: traffic between all adapters for SOAK (30m), with faults, judged by growth
soak: all servers
	FAIRLEAD_SOAK=$(SOAK) $(GO) test -count=1 -timeout 600m -v ./integration/soak

# clean: remove what was built, tools included
clean:
	rm -rf bin

# Tools carry their version in their name, so a new pin is a new file.
$(TOOLS)/golangci-lint-$(GOLANGCI_LINT):
	$(call tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT))

$(TOOLS)/protoc-gen-go-$(PROTOC_GEN_GO):
	$(call tool,google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO))

$(TOOLS)/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC):
	$(call tool,google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC))

define tool
	@mkdir -p $(TOOLS)
	CGO_ENABLED=0 GOBIN=$(TOOLS)/new $(GO) install $(1)
	mv $(TOOLS)/new/* $@
	@rmdir $(TOOLS)/new
endef
