package peer

import "fmt"

// Unreachable says that no answer came. It is the only error of Dial, and the
// only one of Call and Stream beside the other side's *protocol.Error.
type Unreachable struct {
	To Address

	// Sent false: certainly nothing arrived there. True: it may have been done.
	Sent bool

	Err error
}

// Error implements error.
func (e *Unreachable) Error() string {
	return fmt.Sprintf("cannot reach coordinator %s: %v", e.To, e.Err)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// Refused is the answer of a coordinator that does not take a connection, in
// the chain of an *Unreachable.
type Refused struct {
	Status Status
	Other  Identity // who answered
	Reason string   // with the remedy
}

// Error implements error.
func (e *Refused) Error() string { return "it refused: " + e.Reason }

// Status is the answer to a handshake.
type Status byte

// The answers.
const (
	StatusOK           Status = 0
	StatusVersion      Status = 1 // speaks no version of the handshake that we do
	StatusKind         Status = 2 // does not know the kind of connection
	StatusWrongServer  Status = 3 // is not the server that was meant
	StatusWrongCluster Status = 4 // belongs to another cluster, or to none
	StatusMalformed    Status = 5 // could not read the handshake
	StatusClosing      Status = 6 // is about to stop
)
