// Package compat holds the test that mixes this version of the coordinators with
// the one before in one cluster: go test -tags=hashicorpmetrics,compat
// ./scripts/compat. PREVIOUS names the commit of the version before; a release
// moves it to the release before.
package compat
