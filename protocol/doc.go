// Package protocol is the wire contract of Windlass: identifiers, the job
// state machine, the documents that clients and agents exchange, and errors.
//
// It does no I/O and reads no clock. Documents are JSON; fields are only ever
// added, receivers ignore fields they do not know. Durations are integer
// milliseconds where a name ends in Ms, seconds as numbers in the native status
// document, and text such as "600s" in endpoint documents. Times are RFC 3339,
// UTC, with milliseconds. Sizes count in powers of 1024.
package protocol
