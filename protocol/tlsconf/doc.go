// Package tlsconf makes the TLS configurations of Windlass: mutual TLS 1.3
// between coordinators, one-way TLS for the API, both with files that are read
// again when they change; and the built-in certificate authority behind
// `windlass tls`. See DESIGN.md.
package tlsconf
