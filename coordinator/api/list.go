package api

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// maxScan bounds the rows that one page looks at, some 5 ms of work: a filter
// that matches little answers short pages instead of holding a core.
const maxScan = 20_000

// listInline is the largest output shown in a list; larger ones are a URL.
const listInline = 4 << 10

// listQuery is what GET /v2/jobs was asked.
type listQuery struct {
	statuses   []protocol.Status
	priorities []protocol.Priority
	endpoint   string
	agent      string // id or name; empty: any
	agents     []protocol.AgentID
	tags       []state.Tag
	key        string
	created    protocol.Time // only jobs created after it; 0: all
	limit      int
	after      protocol.JobID
}

// idSlack is how much earlier than the log's clock the time in a job's id may be:
// it is that of the coordinator which took the submit, and clocks that differ by
// more than seconds are alarms (DESIGN 3.6).
const idSlack = time.Minute

// listJobs is GET /v2/jobs: newest first.
func (s *Server) listJobs(c *call) error {
	q, err := c.listQuery()
	if err != nil {
		return err
	}
	if !c.stale && !s.leads() {
		return errElsewhere // whether a leased job runs is known there
	}
	inc := c.include(listInline)
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	page := protocol.Page[*protocol.JobStatus]{Data: []*protocol.JobStatus{}}
	view, scanned := s.deps.Store.View(), 0
	q.findAgents(view, c.who.Org)
	var last protocol.JobID
	more := false
	err = s.newest(ctx, view, q.after, q.live(), func(row *state.Job, archived bool) bool {
		if q.before(row.ID) {
			return false // as are all that follow
		}
		if scanned >= maxScan || len(page.Data) == q.limit {
			more = true
			return false
		}
		if scanned++; archived {
			scanned += archiveScan - 1
		}
		last = row.ID
		if !c.reaches(row) {
			last = veil(last)
		} else if q.match(s, row) {
			page.Data = append(page.Data, s.document(row, inc))
		}
		return true
	})
	if err != nil && len(page.Data) == 0 {
		return err
	}
	if more || err != nil { // what is known is shown; the next page is the error
		page.NextCursor = formatCursor(last)
	}
	return c.json(page)
}

// live reports whether only jobs that have not ended are asked for: none of them
// is in the archive.
func (q *listQuery) live() bool {
	return len(q.statuses) > 0 && !slices.ContainsFunc(q.statuses, protocol.Status.Terminal)
}

func (q *listQuery) match(s *Server, row *state.Job) bool {
	if q.endpoint != "" && row.Target != q.endpoint {
		return false
	}
	if q.key != "" && (row.Extra == nil || row.Extra.IdempotencyKey != q.key) {
		return false
	}
	if len(q.priorities) > 0 && !slices.Contains(q.priorities, row.Priority) {
		return false
	}
	if q.agent != "" && !slices.Contains(q.agents, ranOn(row)) {
		return false
	}
	if row.CreatedMs <= int64(q.created) {
		return false
	}
	for _, t := range q.tags {
		if row.Extra == nil || !slices.Contains(row.Extra.Tags, t) {
			return false
		}
	}
	return len(q.statuses) == 0 || slices.Contains(q.statuses, s.shownStatus(row))
}

// before reports whether the id, and every one that follows it in the list, is of
// a job that was created before the time asked for.
func (q *listQuery) before(id protocol.JobID) bool {
	return q.created > 0 && id.CreatedAt().Add(idSlack) < q.created
}

// ranOn is the agent that has the job, or had it last.
func ranOn(row *state.Job) protocol.AgentID {
	switch {
	case row.Lease != nil:
		return row.Lease.Agent
	case row.Outcome != nil:
		return row.Outcome.Agent
	}
	return protocol.AgentID{}
}

// findAgents looks up the agents that are asked for: one by its id, or those of
// the organisation with that name.
func (q *listQuery) findAgents(view *state.View, org string) {
	if q.agent == "" {
		return
	}
	if id, err := protocol.ParseAgentID(q.agent); err == nil {
		q.agents = append(q.agents, id)
	}
	for _, a := range view.Agents() {
		if a.Org == org && a.Name == q.agent {
			q.agents = append(q.agents, a.ID)
		}
	}
}

func (c *call) listQuery() (*listQuery, error) {
	q := &listQuery{endpoint: c.query("endpoint"), agent: c.query("agent"), key: c.query("idempotencyKey"), limit: protocol.DefaultListLimit}
	var bad findings
	for _, name := range c.queryList("status") {
		status, err := protocol.ParseStatus(name)
		if err != nil {
			bad.add("status", name, err.Error())
			continue
		}
		q.statuses = append(q.statuses, status)
	}
	for _, name := range c.queryList("priority") {
		priority, err := protocol.ParsePriority(name)
		if err != nil {
			bad.add("priority", name, err.Error())
			continue
		}
		q.priorities = append(q.priorities, priority)
	}
	if raw := c.query("createdAfter"); raw != "" {
		at, err := time.Parse(time.RFC3339Nano, raw)
		if err != nil {
			bad.add("createdAfter", raw, "Must be a time such as 2024-01-15T14:30:00Z")
		}
		q.created = protocol.TimeOf(at)
	}
	for key, value := range c.ctx.QueryArgs().All() {
		if name, ok := strings.CutPrefix(string(key), "tag."); ok {
			q.tags = append(q.tags, state.Tag{Key: name, Value: string(value)})
		}
	}
	if len(q.tags) > protocol.MaxTags {
		bad.add("tag", nil, "Must be at most "+strconv.Itoa(protocol.MaxTags)+" tags")
	}
	if raw := c.query("limit"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 1 || n > protocol.MaxListLimit {
			bad.add("limit", raw, "Must be an integer between 1 and "+strconv.Itoa(protocol.MaxListLimit))
		}
		q.limit = n
	}
	if raw := c.query("cursor"); raw != "" {
		after, ok := parseCursor(raw)
		if !ok {
			bad.add("cursor", raw, "Must be the nextCursor of the page before")
		}
		q.after = after
	}
	return q, bad.err()
}

// veil hides the id of a row that the caller does not reach and that a cursor
// would show: what is left of it is when it was made. The place is just before
// the row, so that it is looked at again, and nothing is left out.
func veil(id protocol.JobID) protocol.JobID {
	const keptBytes = 8 // the time and two bytes that order the rows of one millisecond
	for i := keptBytes; i < len(id); i++ {
		id[i] = 0xff
	}
	return id
}

// A cursor is the id of the last row that was looked at, opaque to callers.
func formatCursor(id protocol.JobID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseCursor(s string) (protocol.JobID, bool) {
	var id protocol.JobID
	if base64.RawURLEncoding.DecodedLen(len(s)) != len(id) {
		return id, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return protocol.JobID(b), protocol.JobID(b) != protocol.JobID{}
}

// decodeList reads a list of strings.
func decodeList(value []byte, field string, out *[]string, bad *findings) {
	if string(value) == "null" {
		return
	}
	if json.Unmarshal(value, out) != nil {
		bad.add(field, value, "Must be a list of strings")
	}
}
