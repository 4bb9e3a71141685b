package process

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"windlass/protocol"
)

const (
	// LogRate bounds what a runtime may log, in bytes per second (agent.md 6.4);
	// as much may come at once.
	LogRate = 1 << 20
	// lineCost is added to each line's length, because a short line costs as well.
	lineCost = 64
	// TailLines bounds the last lines that an error shows.
	TailLines = 20
	// TailBytes bounds them together.
	TailBytes = 8 << 10

	// SourceAgent marks the lines that we add.
	SourceAgent = "agent"
)

// Log cuts, cleans and rate-limits the lines of one runtime and keeps the last.
type Log struct {
	emit func(source, line string)

	mu      sync.Mutex
	tokens  float64
	at      time.Time
	lines   int // dropped since the last line that passed
	bytes   int
	tail    []string
	tailLen int
}

// NewLog returns a log that hands its lines to emit, in order, one at a time.
func NewLog(emit func(source, line string)) *Log {
	return &Log{emit: emit, tokens: LogRate, at: time.Now()}
}

// Write takes one line. Of a line that a program drew over with carriage returns
// (a progress bar) what it shows at last counts; invalid UTF-8 becomes U+FFFD.
func (l *Log) Write(source, line string) {
	line = clean(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.tokens = min(LogRate, l.tokens+now.Sub(l.at).Seconds()*LogRate)
	l.at = now
	l.keep(line)
	if cost := float64(len(line) + lineCost); l.tokens < cost {
		l.lines++
		l.bytes += len(line)
		return
	}
	l.flush()
	l.tokens -= float64(len(line) + lineCost)
	l.emit(source, line)
}

// Flush says what was dropped since the last line that passed.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *Log) flush() {
	if l.lines > 0 {
		l.emit(SourceAgent, fmt.Sprintf("%d log lines (%d bytes) were dropped: the runtime logs more than %s/s", l.lines, l.bytes, protocol.FormatBytes(LogRate)))
		l.lines, l.bytes = 0, 0
	}
}

func (l *Log) keep(line string) {
	if len(line) > TailBytes {
		line = strings.ToValidUTF8(line[:TailBytes], "")
	}
	l.tail = append(l.tail, line)
	l.tailLen += len(line)
	for len(l.tail) > TailLines || l.tailLen > TailBytes {
		l.tailLen -= len(l.tail[0])
		l.tail = l.tail[1:]
	}
}

// Tail is the last lines, dropped ones included.
func (l *Log) Tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.tail...)
}

func clean(line string) string {
	line = strings.TrimRight(line, "\r\n")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	if len(line) > protocol.MaxLogLine {
		line = line[:protocol.MaxLogLine]
		for i := 1; i <= utf8.UTFMax && i < len(line); i++ { // no half character at the cut
			if utf8.RuneStart(line[len(line)-i]) {
				if !utf8.FullRuneInString(line[len(line)-i:]) {
					line = line[:len(line)-i]
				}
				break
			}
		}
	}
	if !utf8.ValidString(line) {
		line = strings.ToValidUTF8(line, "\uFFFD")
	}
	return strings.ReplaceAll(line, "\x00", "")
}
