// Package conformance walks the items of the seed documents, one after the
// other, against real processes: `windlass dev` alone, and through a follower of
// three. The number of an item is in the name of its test; docs/compatibility.md
// has them all. The build tag is conformance, and `make conformance` runs it.
package conformance
