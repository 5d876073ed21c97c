package api

import (
	"bytes"
	"context"
	"time"

	"countersign"
)

// readyWithin bounds the question to the database behind /readyz.
const readyWithin = 2 * time.Second

// Healthz says that the process is alive. It asks nobody.
func (o operations) Healthz(context.Context, HealthzRequestObject) (HealthzResponseObject, error) {
	return Healthz200JSONResponse{Status: "ok", Version: o.version}, nil
}

// Readyz says whether requests can be served.
func (o operations) Readyz(ctx context.Context, _ ReadyzRequestObject) (ReadyzResponseObject, error) {
	if o.waiters.drained() {
		return nil, fail(codeNotReady, "the server is shutting down").retryAfter(5 * time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := o.store.Ready(ctx); err != nil {
		return nil, fail(codeNotReady, "the database cannot be used").retryAfter(5 * time.Second).because(err)
	}
	return Readyz200JSONResponse{Status: "ready", Version: o.version}, nil
}

// Openapi serves the contract.
func (o operations) Openapi(context.Context, OpenapiRequestObject) (OpenapiResponseObject, error) {
	return Openapi200ApplicationYamlResponse{
		Body: bytes.NewReader(countersign.OpenAPI), ContentLength: int64(len(countersign.OpenAPI)),
	}, nil
}
