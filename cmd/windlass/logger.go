package main

import (
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// newLogger writes JSON lines on stderr, or readable ones on a terminal.
func (a *app) newLogger(level, format string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(strings.ToLower(level))
	if err != nil || level == "" {
		return zerolog.Nop(), usagef("unknown log level %q: use debug, info, warn or error", level)
	}
	switch format {
	case "", "auto":
		if a.errTerminal {
			return a.consoleLogger(l), nil
		}
	case "console":
		return a.consoleLogger(l), nil
	case "json":
	default:
		return zerolog.Nop(), usagef("unknown log format %q: use json or console", format)
	}
	return zerolog.New(a.err).Level(l).With().Timestamp().Logger(), nil
}

func (a *app) consoleLogger(l zerolog.Level) zerolog.Logger {
	w := zerolog.ConsoleWriter{Out: a.err, TimeFormat: time.TimeOnly, NoColor: true}
	return zerolog.New(w).Level(l).With().Timestamp().Logger()
}
