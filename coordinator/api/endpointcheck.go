package api

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"time"

	"windlass/protocol"
)

// reservedEndpoints are the ids that other routes or other dialects need
// (ecosystem.md 2.1, contracts.md C13).
func reservedEndpoints() []string {
	return []string{
		"agents", "cluster", "endpoints", "events", "health", "jobs", "keys", "models", "openai",
		"openapi", "orgs", "predictions", "schemas", "v1", "v2", "webhooks",
	}
}

// runtimeKinds are the runtimes that agents know (DESIGN 5).
func runtimeKinds() []string {
	return []string{"builtin", "command", "runpod", "openai", "cog", "oip", "http"}
}

// Bounds of an endpoint document.
const (
	maxConcurrency = 1024 // jobs at once in one instance
	maxGPUs        = 1024 // of one job
	maxCount       = 1_000_000_000
	defaultStart   = 5 * time.Minute
)

const endpointPattern = "^[A-Za-z][A-Za-z0-9_-]{0,62}$"

// checkEndpointID says why an id is refused, or nothing.
func checkEndpointID(id string) string {
	if ok, _ := regexp.MatchString(endpointPattern, id); !ok {
		return "Must match " + endpointPattern
	}
	if slices.Contains(reservedEndpoints(), id) {
		return "This id is reserved; another one is needed"
	}
	return ""
}

// parseEndpoint reads an endpoint document strictly, checks it and fills in the
// defaults. id is the one of the path, empty when there is none.
func parseEndpoint(body []byte, id string) (*protocol.Endpoint, error) {
	doc := &protocol.Endpoint{}
	var bad findings
	switch err := scanObject(body, func(string, []byte) {}); {
	case errors.Is(err, errNotObject):
		bad.add("body", body, "Must be a JSON object")
		return nil, bad.err()
	case err != nil:
		return nil, malformed(err)
	}
	decodeStrict(trimSpace(body), doc, &bad)
	if len(bad.list) > 0 {
		return nil, bad.err()
	}
	if id != "" {
		if doc.ID == "" {
			doc.ID = id
		}
		if doc.ID != id {
			bad.add("id", doc.ID, "Must be the id of the path, "+id)
		}
	}
	checkEndpoint(doc, &bad)
	if err := bad.err(); err != nil {
		return nil, err
	}
	doc.Kind = protocol.EndpointKind
	doc.Concurrency = max(doc.Concurrency, 1)
	orDefault(&doc.Policy.ExecutionTimeout, protocol.DefaultExecutionTimeout)
	orDefault(&doc.Policy.TTL, protocol.DefaultTTL)
	orDefault(&doc.Timeouts.Start, defaultStart)
	if doc.Policy.MaxAttempts == 0 {
		doc.Policy.MaxAttempts = protocol.DefaultMaxAttempts
	}
	return doc, nil
}

func orDefault(d *protocol.Duration, v time.Duration) {
	if *d == 0 {
		*d = protocol.Duration(v)
	}
}

func checkEndpoint(doc *protocol.Endpoint, bad *findings) {
	if doc.Kind != "" && doc.Kind != protocol.EndpointKind {
		bad.add("kind", doc.Kind, "Must be "+protocol.EndpointKind)
	}
	if why := checkEndpointID(doc.ID); why != "" {
		bad.add("id", doc.ID, why)
	}
	checkRuntime(&doc.Runtime, bad)
	between(bad, "concurrency", doc.Concurrency, 0, maxConcurrency)
	between(bad, "resources.gpus", doc.Resources.GPUs, 0, maxGPUs)
	if doc.Resources.CPU && (doc.Resources.GPUs > 0 || doc.Resources.VRAM > 0 || doc.Resources.GPUType != "") {
		bad.add("resources.cpu", true, "Must not come together with gpus, vram or gpuType")
	}
	between(bad, "policy.maxAttempts", doc.Policy.MaxAttempts, 0, protocol.MaxAttempts)
	policyTime(bad, "policy.executionTimeout", doc.Policy.ExecutionTimeout)
	policyTime(bad, "policy.ttl", doc.Policy.TTL)
	between(bad, "warm.min", doc.Warm.Min, 0, maxCount)
	between(bad, "warm.max", doc.Warm.Max, 0, maxCount)
	if doc.Warm.Max > 0 && doc.Warm.Min > doc.Warm.Max {
		bad.add("warm.min", doc.Warm.Min, "Must not be more than warm.max")
	}
	between(bad, "queueLimit", doc.QueueLimit, 0, maxCount)
	between(bad, "maxRunning", doc.MaxRunning, 0, maxCount)
	if doc.Price.GPUSecond < 0 {
		bad.add("price.gpuSecond", doc.Price.GPUSecond, "Must not be negative")
	}
	if schema := doc.Input.Schema; len(schema) > 0 {
		if _, err := compileSchema(schema); err != nil {
			bad.add("input.schema", nil, "Must be a valid JSON schema: "+err.Error())
		}
	}
}

func checkRuntime(rt *protocol.RuntimeSpec, bad *findings) {
	switch {
	case rt.Kind == "":
		bad.add("runtime.kind", nil, "Required: one of builtin, command, runpod, openai, cog, oip, http")
	case !slices.Contains(runtimeKinds(), rt.Kind):
		bad.add("runtime.kind", rt.Kind, "Must be builtin, command, runpod, openai, cog, oip or http")
	case rt.Kind == "command" && (len(rt.Command) == 0 || rt.Command[0] == ""):
		bad.add("runtime.command", nil, "Required for kind command: the program and its arguments")
	}
}

func between(bad *findings, field string, v, low, high int) {
	if v < low || v > high {
		bad.add(field, v, "Must be between "+strconv.Itoa(low)+" and "+strconv.Itoa(high))
	}
}

func policyTime(bad *findings, field string, d protocol.Duration) {
	if d != 0 && (d.Std() < protocol.MinPolicyTime || d.Std() > protocol.MaxPolicyTime) {
		bad.add(field, d, "Must be between 1s and 168h (7 days)")
	}
}
