// Package countersign holds the API contract, so that the server can serve the very
// document it is tested against.
package countersign

import _ "embed"

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.0 -config api/oapi-codegen.yaml openapi.yaml

// OpenAPI is openapi.yaml, the contract of the HTTP API (OpenAPI 3.1, YAML). It is not to
// be changed.
//
//go:embed openapi.yaml
var OpenAPI []byte
