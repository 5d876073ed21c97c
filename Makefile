# Everything a contributor needs. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PKGS     ?= ./...
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: dev
dev: ## Try everything on this machine: database, Slack emulator, demo upstream and receiver
	@scripts/ensure-postgres
	@go build -o bin/countersign ./cmd/countersign # go run would call every Ctrl-C a failure
	@bin/countersign dev $(ARGS)

.PHONY: test
test: ## Run the whole test suite, the crash tests and the smoke test
	@scripts/ensure-postgres
	@scripts/ensure-chromium
	@scripts/ensure-tools
	go run ./db/dbtest/testcluster -- go test -timeout 9m $(PKGS)
	go run ./db/dbtest/testcluster -- go test -timeout 5m -tags faultinject -run Crash -v ./jobs/ ./notify/
	go run ./cmd/smoke

.PHONY: race
race: ## Run the test suite under the race detector
	@scripts/ensure-postgres
	go run ./db/dbtest/testcluster -- go test -race -timeout 20m $(PKGS)

.PHONY: smoke
smoke: ## Drive a real dev instance through its public API, without a person
	@scripts/ensure-postgres
	go run ./cmd/smoke

.PHONY: crash
crash: ## Kill a worker at every named point and look at what is left
	@scripts/ensure-postgres
	go run ./db/dbtest/testcluster -- go test -timeout 10m -tags faultinject -run Crash -v -count $(or $(CYCLES),1) ./jobs/ ./notify/

.PHONY: races
races: ## Let two approvers decide at once, N times (default 10000), on a real Postgres
	@scripts/ensure-postgres
	RACES=$(or $(N),10000) go run ./db/dbtest/testcluster -- go test -timeout 60m -count 1 -v -run TestTwoApproversAtOnce ./db

.PHONY: forgeries
forgeries: ## Send N replayed and mutated Slack requests (default 100000); none may have a second effect
	@scripts/ensure-postgres
	FORGERIES=$(or $(N),100000) go run ./db/dbtest/testcluster -- go test -timeout 120m -count 1 -v -run TestForgeries ./interact

.PHONY: callbacks
callbacks: ## Measure callbacks to 200 healthy receivers, alone and beside 50 that hang, N turns (default 3)
	@scripts/ensure-postgres
	CALLBACKS=$(or $(N),3) go run ./db/dbtest/testcluster -- go test -timeout 60m -count 1 -v -run TestCallbacksBeside ./jobs

.PHONY: screenshots
screenshots: ## Look at the pages with headless Chromium, and keep what is seen in out/screenshots
	@scripts/ensure-postgres
	@scripts/ensure-chromium
	go run ./db/dbtest/testcluster -- go test -count 1 -v -run Browser ./cmd/countersign ./slack/emulator

.PHONY: sequences
sequences: ## Compare N random lives of tickets (default 1000000) with the brute-force model; for the night
	SEQUENCES=$(or $(N),1000000) go test -timeout 600m -count 1 -v -run TestCampaign ./approvals

.PHONY: model
model: ## Explore every interleaving of workers, sweeper, timers and people, and catch every seeded bug
	MODEL=full go test -timeout 30m -count 1 -v ./model

.PHONY: bench
bench: ## Measure against pgbench in the same run: NAME value goal ok|short
	@scripts/ensure-postgres
	go run ./cmd/bench $(ARGS)

.PHONY: fuzz
fuzz: ## Run every fuzz target for T each (default 30s)
	@scripts/fuzz $(or $(T),30s)

.PHONY: lint
lint: ## Run the linters
	go run $(GOLANGCI) run $(PKGS)

.PHONY: generate
generate: ## Generate api/openapi.gen.go from openapi.yaml
	go generate .

.PHONY: verify
verify: generate ## Fail when generated files or go.mod are not current
	go mod tidy -diff
	git diff --exit-code -- api/openapi.gen.go

.PHONY: build
build: ## Build a stripped binary into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/countersign ./cmd/countersign
