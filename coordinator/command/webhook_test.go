package command

import "strings"

// invalidWebhooks are changes that make a sample invalid.
func invalidWebhooks() map[string]func(map[string]*Command) *Command {
	cases := make(map[string]func(map[string]*Command) *Command)
	cases["short secret"] = func(m map[string]*Command) *Command {
		m["put_webhook_secret"].GetPutWebhookSecret().Key = id(1)
		return m["put_webhook_secret"]
	}
	cases["automatic rotation"] = func(m map[string]*Command) *Command {
		m["put_webhook_secret"].GetPutWebhookSecret().Automatic = true
		return m["put_webhook_secret"]
	}
	for name, change := range map[string]func(*RecordDelivery){
		"delivery outcome": func(r *RecordDelivery) { r.Outcome = 0 },
		"delivery attempt": func(r *RecordDelivery) { r.Attempt = 0 },
		"retry never":      func(r *RecordDelivery) { r.NextMs = 0 },
		"end with a next":  func(r *RecordDelivery) { r.Outcome = RecordDelivery_FAILED },
		"long answer":      func(r *RecordDelivery) { r.Answer = strings.Repeat("x", 1025) },
		"answer text":      func(r *RecordDelivery) { r.Answer = "\xff" },
	} {
		cases[name] = func(m map[string]*Command) *Command {
			change(m["record_delivery"].GetRecordDelivery())
			return m["record_delivery"]
		}
	}
	return cases
}
