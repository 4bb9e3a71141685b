// Package sdk holds the tests of the clients in sdk/: their own suites, their
// packages as a user installs them, and the snippets of the seed documents, run
// from the seeds' text. They need Node and Python and carry the build tag
// clients.
package sdk
