// Package host measures a host and the process trees of its jobs from procfs,
// and identifies processes so that a reused pid is never mistaken for the one
// that was meant.
//
// A figure that could not be read is absent, never zero in disguise.
package host
