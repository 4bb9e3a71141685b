// Package auth decides who a caller is and what a caller may do. See DESIGN.md.
package auth

import (
	"slices"

	"windlass/protocol"
)

// Permission is one right (DESIGN 7).
type Permission = protocol.Permission

// The permissions.
const (
	JobsRead         Permission = "jobs:read"
	JobsWrite        Permission = "jobs:write"
	EndpointsExecute Permission = "endpoints:execute"
	EndpointsWrite   Permission = "endpoints:write"
	AgentsManage     Permission = "agents:manage"
	KeysManage       Permission = "keys:manage"
	ClusterAdmin     Permission = "cluster:admin"
)

// Permissions returns every permission.
func Permissions() []Permission {
	return []Permission{JobsRead, JobsWrite, EndpointsExecute, EndpointsWrite, AgentsManage, KeysManage, ClusterAdmin}
}

// Identity is who a request comes from. The zero value is nobody. Its lists are
// shared: read-only.
type Identity struct {
	Org         string
	Key         protocol.KeyID // zero: the bootstrap key
	Permissions []Permission
	Endpoints   []string // that the key is bound to, sorted; none: all of the organisation
	ExpiresMs   int64    // 0: never
	Unlimited   bool     // no rate limit applies (DESIGN 4: bootstrap and dev keys)
}

// May reports whether the identity holds permission p.
func (i *Identity) May(p Permission) bool { return slices.Contains(i.Permissions, p) }

// Reaches reports whether the identity knows of the endpoint, and of its jobs.
// What it does not reach does not exist for it.
func (i *Identity) Reaches(org, endpoint string) bool {
	if i.Org != org {
		return false
	}
	if len(i.Endpoints) == 0 {
		return true
	}
	_, bound := slices.BinarySearch(i.Endpoints, endpoint)
	return bound
}

// KeyID names the key for logs and answers; it is never the key.
func (i *Identity) KeyID() string {
	if i.Key.IsZero() {
		return BootstrapKeyID
	}
	return i.Key.String()
}

// BootstrapKeyID is the key id of the bootstrap key.
const BootstrapKeyID = "key_bootstrap"
