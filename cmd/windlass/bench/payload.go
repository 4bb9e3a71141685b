package bench

import (
	"bytes"
	"strconv"
	"time"
)

// inputSize is the size of every input (performance.md 6).
const inputSize = 1024

// stampDigits is the width of the send time in an input; a worker reads it back
// to measure submit-to-start without shared state.
const stampDigits = 19

const inputHead = `{"t":"`

// submitBody is a submit whose input is exactly inputSize bytes of JSON.
func submitBody() []byte {
	input := []byte(inputHead + string(bytes.Repeat([]byte{'0'}, stampDigits)) + `","p":"`)
	input = append(input, bytes.Repeat([]byte{'x'}, inputSize-len(input)-2)...)
	input = append(input, `"}`...)
	body := append([]byte(`{"input":`), input...)
	return append(body, '}')
}

// stamp writes the present time into a body of submitBody.
func stamp(body []byte) {
	at := bytes.Index(body, []byte(inputHead)) + len(inputHead)
	copy(body[at:at+stampDigits], strconv.AppendInt(nil, time.Now().UnixNano(), 10))
}

// sentAt reads the time that stamp wrote, in unix nanoseconds; 0 if there is none.
func sentAt(input []byte) int64 {
	at := bytes.Index(input, []byte(inputHead))
	if at < 0 || len(input) < at+len(inputHead)+stampDigits {
		return 0
	}
	at += len(inputHead)
	n, err := strconv.ParseInt(string(input[at:at+stampDigits]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
