package api

import (
	"math"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// slowStart is from where on a cold start is worth a suggestion: below, people
	// do not notice it.
	slowStart = 1.0
	// dominant is the share of a cold start from which one phase is what to shorten.
	dominant = 0.5
	// frequentWithin and frequentJobs say when a model is accessed frequently: so
	// many of its endpoint's jobs ended within that time.
	frequentWithin = time.Hour
	frequentJobs   = 3
	// coldShare is from which share of them on the cold starts are the rule.
	coldShare = 0.2
)

// coldStart shows a cold start in milliseconds, so that its phases add up to its
// duration exactly, as written.
func coldStart(c *protocol.ColdStart) *protocol.ColdStart {
	if c == nil {
		return nil
	}
	shown := *c
	shown.Duration = float64(millis(c.Duration)) / 1000
	if p := c.Phases; p != nil {
		a, b, m := millis(p.ContainerStart), millis(p.DependencyLoad), millis(p.ModelLoad)
		shown.Phases = &protocol.ColdStartPhases{ContainerStart: seconds(a), DependencyLoad: seconds(b), ModelLoad: seconds(m)}
		shown.Duration = seconds(a + b + m)
	}
	return &shown
}

func millis(seconds float64) int64 { return int64(math.Round(seconds * 1000)) }

// addSuggestions says what would shorten a cold start, by rules over what was
// measured of it and of the endpoint's other jobs.
func (s *Server) addSuggestions(doc *protocol.JobStatus, row *state.Job) {
	c := doc.ColdStart
	if c == nil || !c.Occurred || c.Duration < slowStart {
		return
	}
	since := s.deps.NowMs() - frequentWithin.Milliseconds()
	cold, all := s.estimate.coldStarts(row.Org, row.Target, since)
	e := s.deps.Store.Endpoint(row.Org, row.Target)
	if e != nil && e.Doc.Warm.Min == 0 && all >= frequentJobs && float64(cold) >= coldShare*float64(all) {
		c.Suggestions = append(c.Suggestions, "Consider using warm pools for frequently accessed models")
	}
	if p := c.Phases; p != nil {
		switch most := dominant * c.Duration; {
		case p.ModelLoad >= most:
			c.Suggestions = append(c.Suggestions, "Optimize model size or use quantized versions")
		case p.DependencyLoad >= most:
			c.Suggestions = append(c.Suggestions, "Load fewer dependencies before the model, or load them from a local disk")
		case p.ContainerStart >= most:
			c.Suggestions = append(c.Suggestions, "Use a smaller image or a program that starts faster")
		}
	}
}
