package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// dialect is what a submit's body is written in.
type dialect uint8

const (
	nativeDialect  dialect = iota // the input is an object
	classicDialect                // the input is any JSON
)

// maxS3Config bounds what a job carries for its handler's store: two keys and
// three names.
const maxS3Config = 8 << 10

// submission is a checked submit body. Its slices belong to the body.
type submission struct {
	input         []byte // as it was sent
	s3Config      []byte // an object, compact
	callbackURL   string
	callbackField string // where it came from
	callbackBase  string // of URLs in the webhook
	priority      protocol.Priority
	tags          []*command.Tag // sorted by key
	key           string         // idempotency key; empty without one
	executionMs   int64          // 0: the endpoint's
	ttlMs         int64          // 0: the endpoint's
}

// submitParser reads the members of a submit body as the scanner finds them.
type submitParser struct {
	out     submission
	bad     findings
	seen    uint
	dialect dialect
	second  string // webhookV2
	lowered bool   // policy.lowPriority
}

// parseSubmit checks a body and reads it in one pass. The header's idempotency
// key counts when the body has none. Errors: MALFORMED_REQUEST when the body
// is not JSON, VALIDATION_ERROR with every finding otherwise.
func parseSubmit(body []byte, headerKey string, d dialect) (*submission, error) {
	p := submitParser{dialect: d, out: submission{priority: protocol.PriorityNormal}}
	switch err := scanObject(body, p.member); {
	case errors.Is(err, errNotObject):
		p.bad.add("body", rawValue(bytes.TrimSpace(body)), "Must be a JSON object")
		return nil, p.bad.err()
	case err != nil:
		return nil, malformed(err)
	}
	if p.out.input == nil && p.seen&memberInput == 0 {
		p.bad.add("input", nil, "Required: the endpoint's input")
	}
	if p.out.callbackField == "" {
		p.setCallback("webhookV2", p.second)
	}
	p.headerKey(headerKey)
	if p.lowered && p.seen&memberPriority == 0 {
		p.out.priority = protocol.PriorityLow
	}
	return &p.out, p.bad.err()
}

// The known members, as bits that find duplicates.
const (
	memberInput = 1 << iota
	memberAsync
	memberCallback
	memberWebhook
	memberPriority
	memberTags
	memberKey
	memberPolicy
	memberWebhookV2
	memberS3Config
)

// member takes one member of the body; unknown ones are ignored (DESIGN 4).
func (p *submitParser) member(key string, value []byte) {
	bit, read := p.reader(key)
	if bit == 0 {
		return
	}
	if p.seen&bit != 0 {
		p.bad.add(key, nil, "Must not be given twice")
		return
	}
	p.seen |= bit
	if bit != memberInput && string(value) == "null" {
		return
	}
	read(key, value)
}

func (p *submitParser) reader(key string) (uint, func(string, []byte)) {
	switch key {
	case "input":
		return memberInput, p.input
	case "async":
		return memberAsync, p.async
	case "callbackUrl":
		return memberCallback, p.callbackURL
	case "webhook":
		return memberWebhook, p.webhook
	case "priority":
		return memberPriority, p.priority
	case "tags":
		return memberTags, p.tags
	case "idempotencyKey":
		return memberKey, p.bodyKey
	case "policy":
		return memberPolicy, p.policy
	case "webhookV2":
		return memberWebhookV2, p.webhookV2
	case "s3Config":
		return memberS3Config, p.s3Config
	}
	return 0, nil
}

func (p *submitParser) input(field string, value []byte) {
	if p.dialect == nativeDialect && value[0] != '{' {
		p.bad.add(field, value, "Must be an object")
		return
	}
	p.out.input = value
}

// webhookV2 counts where no other callback is given: clients send both.
func (p *submitParser) webhookV2(field string, value []byte) {
	p.second, _ = p.text(field, value)
}

// s3Config is the handler's: what is in it is not looked at, and never repeated.
func (p *submitParser) s3Config(field string, value []byte) {
	var compact bytes.Buffer
	switch {
	case value[0] != '{':
		p.bad.add(field, nil, "Must be an object")
	case len(value) > maxS3Config || json.Compact(&compact, value) != nil:
		p.bad.add(field, nil, "Must have at most "+strconv.Itoa(maxS3Config)+" bytes")
	default:
		p.out.s3Config = compact.Bytes()
	}
}

func (p *submitParser) async(field string, value []byte) {
	if s := string(value); s != "true" && s != "false" {
		p.bad.add(field, value, "Must be true or false")
	}
}

// text reads a string value.
func (p *submitParser) text(field string, value []byte) (string, bool) {
	if value[0] != '"' {
		p.bad.add(field, value, "Must be a string")
		return "", false
	}
	return unquote(value), true
}

func (p *submitParser) callbackURL(field string, value []byte) {
	if s, ok := p.text(field, value); ok {
		p.setCallback(field, s)
	}
}

func (p *submitParser) webhook(field string, value []byte) {
	if value[0] != '{' {
		if value[0] != '"' {
			p.bad.add(field, value, "Must be a URL, or an object with a url")
			return
		}
		p.setCallback(field, unquote(value))
		return
	}
	_ = scanObject(value, func(key string, v []byte) {
		if key != "url" || string(v) == "null" {
			return
		}
		if s, ok := p.text("webhook.url", v); ok {
			p.setCallback("webhook.url", s)
		}
	})
}

// setCallback takes one of the three spellings of the callback (DESIGN 4).
func (p *submitParser) setCallback(field, value string) {
	if value == "" {
		return
	}
	if was := p.out.callbackField; was != "" && p.out.callbackURL != value {
		p.bad.add(field, value, "Differs from "+was+": they are the same setting")
		return
	}
	p.out.callbackURL, p.out.callbackField = value, field
}

func (p *submitParser) priority(field string, value []byte) {
	s, ok := p.text(field, value)
	if !ok {
		return
	}
	v, err := protocol.ParsePriority(s)
	if err != nil || s == "" {
		p.bad.add(field, s, "Must be critical, high, normal or low")
		return
	}
	p.out.priority = v
}

func (p *submitParser) tags(field string, value []byte) {
	if value[0] != '{' {
		p.bad.add(field, value, "Must be an object of strings")
		return
	}
	_ = scanObject(value, func(key string, v []byte) {
		path := field + "." + shown(key).(string)
		switch {
		case v[0] != '"':
			p.bad.add(path, v, "Must be a string")
		case key == "" || len(key) > protocol.MaxTagKey:
			p.bad.add(path, nil, "A tag's key must have 1 to "+strconv.Itoa(protocol.MaxTagKey)+" characters")
		case len(unquote(v)) > protocol.MaxTagValue:
			p.bad.add(path, nil, "A tag's value must have at most "+strconv.Itoa(protocol.MaxTagValue)+" characters")
		case len(p.out.tags) < protocol.MaxTags:
			p.out.tags = append(p.out.tags, &command.Tag{Key: key, Value: unquote(v)})
		default:
			p.bad.add(field, nil, "Must hold at most "+strconv.Itoa(protocol.MaxTags)+" tags")
		}
	})
	slices.SortFunc(p.out.tags, func(a, b *command.Tag) int { return strings.Compare(a.Key, b.Key) })
	for i := 1; i < len(p.out.tags); i++ {
		if p.out.tags[i].Key == p.out.tags[i-1].Key {
			p.bad.add(field+"."+p.out.tags[i].Key, nil, "Must not be given twice")
		}
	}
}

func (p *submitParser) bodyKey(field string, value []byte) {
	if s, ok := p.text(field, value); ok {
		p.setKey(field, s)
	}
}

// headerKey takes the header Idempotency-Key, quoted or not.
func (p *submitParser) headerKey(key string) {
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if key != "" {
		p.setKey(protocol.HeaderIdempotencyKey, key)
	}
}

func (p *submitParser) setKey(field, key string) {
	switch {
	case key == "" || len(key) > protocol.MaxIdempotencyKey:
		p.bad.add(field, key, "Must have 1 to "+strconv.Itoa(protocol.MaxIdempotencyKey)+" characters")
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		p.bad.add(field, nil, "Must not hold control characters")
	case p.out.key != "" && p.out.key != key:
		p.bad.add(field, key, "Differs from idempotencyKey in the body: they are the same setting")
	default:
		p.out.key = key
	}
}

func (p *submitParser) policy(field string, value []byte) {
	if value[0] != '{' {
		p.bad.add(field, value, "Must be an object")
		return
	}
	_ = scanObject(value, func(key string, v []byte) {
		path := field + "." + key
		switch {
		case string(v) == "null":
		case key == "executionTimeout":
			p.out.executionMs = p.policyTime(path, v)
		case key == "ttl":
			p.out.ttlMs = p.policyTime(path, v)
		case key == "lowPriority":
			if s := string(v); s != "true" && s != "false" {
				p.bad.add(path, v, "Must be true or false")
			}
			p.lowered = string(v) == "true"
		}
	})
}

func (p *submitParser) policyTime(field string, value []byte) int64 {
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err == nil {
		if e := protocol.CheckPolicyTime(field, ms); e == nil {
			return ms
		}
	}
	reason, _ := protocol.CheckPolicyTime(field, -1).Details["reason"].(string)
	p.bad.add(field, json.RawMessage(value), reason)
	return 0
}
