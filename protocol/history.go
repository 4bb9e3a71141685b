package protocol

// EventGap is a stream event that says that older output or log events of the
// attempt are not kept any more; its data is a GapEvent.
const EventGap = "gap"

// GapEvent says which elements a stream cannot show again. All of them are in
// the finished job's logs and chunks.
type GapEvent struct {
	Attempt uint32 `json:"attempt"`
	Type    string `json:"type"` // EventOutput or EventLog
	From    uint64 `json:"from"` // first number left out
	To      uint64 `json:"to"`   // first number that follows
}

// JobEvent is one line of a job's history, GET /v2/jobs/{id}/events.
type JobEvent struct {
	Time    Time   `json:"time"`
	Type    string `json:"type"` // submitted, reopened, leased, started, retry, or a terminal state
	Attempt uint32 `json:"attempt,omitempty"`
	AgentID string `json:"agentId,omitempty"`
	Code    Code   `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}
