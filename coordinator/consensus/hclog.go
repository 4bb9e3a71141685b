package consensus

import (
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// bridge lets raft and raft-wal write to our log, one level down: their Warn is
// about the ordinary life of a cluster (every start "times out" into an
// election) and their Info about their own mechanics. What an operator must act
// on is said by this package.
type bridge struct {
	out     zerolog.Logger
	name    string
	implied []any
}

func newBridge(out zerolog.Logger) hclog.Logger { return &bridge{out: out} }

func (b *bridge) level(l hclog.Level) zerolog.Level {
	switch l {
	case hclog.Error:
		return zerolog.ErrorLevel
	case hclog.Warn:
		return zerolog.InfoLevel
	case hclog.Info, hclog.Debug:
		return zerolog.DebugLevel
	default:
		return zerolog.TraceLevel
	}
}

// Log implements hclog.Logger.
func (b *bridge) Log(l hclog.Level, msg string, args ...any) {
	if aboutSilence(msg) {
		l = hclog.Debug
	}
	if !b.is(l) {
		return
	}
	e := b.out.WithLevel(b.level(l))
	fields(e, b.implied)
	fields(e, args)
	e.Str("source", "raft").Msg(msg)
}

// aboutSilence finds what raft says about a server that does not answer, several
// times a second for as long as it is down. membership says it once.
func aboutSilence(msg string) bool {
	switch msg {
	case "failed to heartbeat to", "failed to appendEntries to", "failed to contact", "failed to make requestVote RPC",
		"failed to decode incoming command", "failed to flush response":
		return true
	}
	return false
}

func fields(e *zerolog.Event, args []any) {
	for i := 0; i+1 < len(args); i += 2 {
		key := fmt.Sprint(args[i])
		switch v := args[i+1].(type) {
		case error:
			e.AnErr(key, v)
		case string:
			e.Str(key, v)
		case hclog.Format:
			if f, ok := v[0].(string); ok {
				e.Str(key, fmt.Sprintf(f, v[1:]...))
			}
		default:
			e.Str(key, fmt.Sprint(v))
		}
	}
}

// Trace implements hclog.Logger.
func (b *bridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (b *bridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (b *bridge) Info(msg string, args ...any) { b.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (b *bridge) Warn(msg string, args ...any) { b.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (b *bridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *bridge) is(l hclog.Level) bool { return b.out.GetLevel() <= b.level(l) }

// IsTrace implements hclog.Logger.
func (b *bridge) IsTrace() bool { return b.is(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (b *bridge) IsDebug() bool { return b.is(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (b *bridge) IsInfo() bool { return b.is(hclog.Info) }

// IsWarn implements hclog.Logger.
func (b *bridge) IsWarn() bool { return b.is(hclog.Warn) }

// IsError implements hclog.Logger.
func (b *bridge) IsError() bool { return b.is(hclog.Error) }

// ImpliedArgs implements hclog.Logger.
func (b *bridge) ImpliedArgs() []any { return b.implied }

// With implements hclog.Logger.
func (b *bridge) With(args ...any) hclog.Logger {
	c := *b
	c.implied = append(append([]any(nil), b.implied...), args...)
	return &c
}

// Name implements hclog.Logger.
func (b *bridge) Name() string { return b.name }

// Named implements hclog.Logger.
func (b *bridge) Named(name string) hclog.Logger {
	return b.ResetNamed(strings.TrimPrefix(b.name+"."+name, "."))
}

// ResetNamed implements hclog.Logger.
func (b *bridge) ResetNamed(name string) hclog.Logger {
	c := *b
	c.name = name
	return &c
}

// SetLevel implements hclog.Logger; the level is our log's.
func (b *bridge) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (b *bridge) GetLevel() hclog.Level {
	switch l := b.out.GetLevel(); {
	case l <= zerolog.TraceLevel:
		return hclog.Trace
	case l <= zerolog.DebugLevel:
		return hclog.Debug
	case l <= zerolog.InfoLevel:
		return hclog.Warn
	default:
		return hclog.Error
	}
}

// StandardLogger implements hclog.Logger.
func (b *bridge) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(b.StandardWriter(opts), "", 0)
}

// StandardWriter implements hclog.Logger.
func (b *bridge) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lines{b} }

type lines struct{ b *bridge }

// Write implements io.Writer.
func (l lines) Write(p []byte) (int, error) {
	l.b.Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}
