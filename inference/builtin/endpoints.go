package builtin

import (
	"encoding/json"
	"fmt"

	"windlass/protocol"
)

// The endpoints that `windlass dev` serves.
const (
	EndpointStory    = "ep_story"
	EndpointDocument = "ep_document_gen" // the name in seed S0
	EndpointEcho     = "ep_echo"
	EndpointImages   = "ep_image_processor" // the name in seed S0
)

// sampleConcurrency is how many jobs a sample's child runs at once: two keep a
// small machine busy, and each generation takes one core.
const sampleConcurrency = 2

// echoConcurrency is larger because an echo waits and does nothing else.
const echoConcurrency = 16

// SampleEndpoints returns the endpoint documents of the built-in handlers. They
// run on any agent, have no price, and their schemas hold the handlers' bounds.
func SampleEndpoints() []protocol.Endpoint {
	return []protocol.Endpoint{
		sample(EndpointStory, HandlerStory, sampleConcurrency, fmt.Sprintf(`{
			"type": "object",
			"required": ["prompt"],
			"properties": {
				"prompt": {"type": "string", "minLength": 1, "description": "the begin of the story, in your words"},
				"count": {"type": "integer", "minimum": 1, "maximum": %d, "default": 1, "description": "how many stories"},
				"maxTokens": {"type": "integer", "minimum": 1, "maximum": %d, "default": %d, "description": "the most tokens of one story"},
				"temperature": {"type": "number", "minimum": 0, "maximum": %d, "default": 0, "description": "0 tells the likeliest story; further stories of the same job are then told at %v with seed + i, so that they differ"},
				"seed": {"type": "integer", "default": 0, "description": "story i is told with seed + i; the same input has the same output"}
			}
		}`, maxStories, maxMaxTokens, defaultMaxTokens, maxTemperature, variation)),
		sample(EndpointDocument, HandlerDocument, sampleConcurrency, fmt.Sprintf(`{
			"type": "object",
			"required": ["prompt"],
			"properties": {
				"prompt": {"type": "string", "minLength": 1},
				"sections": {"type": "array", "minItems": 1, "maxItems": %[1]d, "items": {"type": "string", "minLength": 1}, "default": ["introduction", "body", "conclusion"]},
				"pages": {"type": "integer", "minimum": 1, "maximum": %[1]d, "description": "writes at least this many sections"},
				"format": {"type": "string", "description": "markdown or text; any other is listed in ignored"},
				"seed": {"type": "integer", "default": 0}
			}
		}`, maxPages)),
		sample(EndpointImages, HandlerImages, sampleConcurrency, fmt.Sprintf(`{
			"type": "object",
			"required": ["images"],
			"properties": {
				"images": {"type": "array", "minItems": 1, "maxItems": %d, "items": {"type": "string", "minLength": 1}, "description": "addresses, or data URIs such as data:image/png;base64,..."},
				"operations": {"type": "array", "minItems": 1, "items": {"enum": ["resize", "enhance", "watermark"]}, "default": ["resize"]},
				"output_format": {"enum": ["webp", "png", "jpeg", "jpg"], "description": "as it came when left out; webp is lossless"},
				"width": {"type": "integer", "minimum": 1, "maximum": %[2]d, "default": %[3]d},
				"height": {"type": "integer", "minimum": 1, "maximum": %[2]d, "default": %[3]d},
				"quality": {"type": "integer", "minimum": 1, "maximum": 100, "default": %[4]d, "description": "of jpeg"},
				"watermark": {"type": "string", "maxLength": %[5]d, "default": %[6]q}
			}
		}`, maxImages, maxImageSide, defaultSide, defaultQuality, maxMarkText, defaultMarkText)),
		sample(EndpointEcho, HandlerEcho, echoConcurrency, fmt.Sprintf(`{
			"properties": {
				"sleep": {"type": "number", "minimum": 0, "maximum": %d, "description": "seconds to wait before the answer"},
				"fail": {"type": ["boolean", "object"], "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "retryable": {"type": "boolean"}}}
			}
		}`, int(maxSleep.Seconds()))),
	}
}

func sample(id, handler string, concurrency int, schema string) protocol.Endpoint {
	return protocol.Endpoint{
		Kind: protocol.EndpointKind, ID: id,
		Runtime:     protocol.RuntimeSpec{Kind: Kind, Handler: handler},
		Resources:   protocol.ResourceSpec{CPU: true},
		Concurrency: concurrency,
		Input:       protocol.InputSpec{Schema: compact(schema)},
	}
}

// compact removes the layout of a schema; the text above is its source.
func compact(schema string) json.RawMessage {
	var v json.RawMessage
	if err := json.Unmarshal([]byte(schema), &v); err != nil {
		panic("builtin: a sample's schema is no JSON: " + err.Error())
	}
	b, err := json.Marshal(v) // compacts
	if err != nil {
		panic("builtin: a sample's schema is no JSON: " + err.Error())
	}
	return b
}
