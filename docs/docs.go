// Package docs holds the documents that the program itself serves.
package docs

import _ "embed"

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the description of the HTTP API: an OpenAPI 3.1 document in YAML.
// The slice is shared: read-only.
func OpenAPI() []byte { return openAPI }
