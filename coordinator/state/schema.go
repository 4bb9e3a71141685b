package state

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"windlass/protocol"
)

const (
	tableJobs      = "jobs"
	tableEndpoints = "endpoints"
	tableAgents    = "agents"
	tableKeys      = "idempotency"
	tableOrgs      = "orgs"
	tableSecrets   = "secrets"
	tableStored    = "stored"

	indexID      = "id"
	indexExpires = "expires"
)

// endpointID is the primary key of an endpoint.
type endpointID struct{ org, id string }

// keyID is the primary key of an idempotency key.
type keyID struct{ org, endpoint, key string }

func newTables() *memdb.MemDB {
	unique := func(name string, indexer memdb.Indexer) *memdb.IndexSchema {
		return &memdb.IndexSchema{Name: name, Unique: true, Indexer: indexer}
	}
	table := func(name string, id memdb.Indexer) *memdb.TableSchema {
		return &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{indexID: unique(indexID, id)}}
	}
	keys := table(tableKeys, keyIndex{})
	keys.Indexes[indexExpires] = unique(indexExpires, expiryIndex{})
	keys.Indexes[indexExpires].AllowMissing = true

	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableJobs:      table(tableJobs, jobIndex{}),
		tableEndpoints: table(tableEndpoints, endpointIndex{}),
		tableAgents:    table(tableAgents, agentIndex{}),
		tableOrgs:      table(tableOrgs, orgIndex{}),
		tableSecrets:   table(tableSecrets, secretsIndex{}),
		tableKeys:      keys,
		tableStored:    table(tableStored, storedIndex{}),
	}})
	if err != nil {
		panic("state: the schema is invalid: " + err.Error()) // it is a constant
	}
	// A snapshot does not collect channels to notify; nobody watches rows here.
	return db.Snapshot()
}

// sep ends every part of a composed key but the last; names never contain it,
// so that keys sort by their parts.
const sep = 0

func compose(parts ...string) []byte {
	n := len(parts) - 1
	for _, p := range parts {
		n += len(p)
	}
	key := make([]byte, 0, n)
	for i, p := range parts {
		if i > 0 {
			key = append(key, sep)
		}
		key = append(key, p...)
	}
	return key
}

// Keys are passed to memdb by pointer: a value would be copied to the heap to
// become an argument, and its bytes once more.
func badArgs(table string, args []any) error {
	return fmt.Errorf("cannot read table %s with %d keys of type %T", table, len(args), args)
}

type jobIndex struct{}

func (jobIndex) FromObject(row any) (bool, []byte, error) {
	id := row.(*Job).ID
	// Not a slice of the row: the tree would keep a replaced row alive.
	return true, append(make([]byte, 0, len(id)), id[:]...), nil
}

func (jobIndex) FromArgs(args ...any) ([]byte, error) {
	if id, ok := args[0].(*protocol.JobID); ok && len(args) == 1 {
		return id[:], nil
	}
	return nil, badArgs(tableJobs, args)
}

type agentIndex struct{}

func (agentIndex) FromObject(row any) (bool, []byte, error) {
	id := row.(*Agent).ID
	return true, append(make([]byte, 0, len(id)), id[:]...), nil
}

func (agentIndex) FromArgs(args ...any) ([]byte, error) {
	if id, ok := args[0].(*protocol.AgentID); ok && len(args) == 1 {
		return id[:], nil
	}
	return nil, badArgs(tableAgents, args)
}

type endpointIndex struct{}

func (endpointIndex) FromObject(row any) (bool, []byte, error) {
	e := row.(*Endpoint)
	return true, compose(e.Org, e.ID), nil
}

func (endpointIndex) FromArgs(args ...any) ([]byte, error) {
	if id, ok := args[0].(*endpointID); ok && len(args) == 1 {
		return compose(id.org, id.id), nil
	}
	return nil, badArgs(tableEndpoints, args)
}

type orgIndex struct{}

func (orgIndex) FromObject(row any) (bool, []byte, error) {
	return true, []byte(row.(*Org).ID), nil
}

func (orgIndex) FromArgs(args ...any) ([]byte, error) {
	if name, ok := args[0].(*string); ok && len(args) == 1 {
		return []byte(*name), nil
	}
	return nil, badArgs(tableOrgs, args)
}

type keyIndex struct{}

func (keyIndex) FromObject(row any) (bool, []byte, error) {
	k := row.(*Key)
	return true, compose(k.Org, k.Endpoint, k.Key), nil
}

func (keyIndex) FromArgs(args ...any) ([]byte, error) {
	if id, ok := args[0].(*keyID); ok && len(args) == 1 {
		return compose(id.org, id.endpoint, id.key), nil
	}
	return nil, badArgs(tableKeys, args)
}

// expiryIndex orders the keys of ended jobs by when they become free.
type expiryIndex struct{}

func (expiryIndex) FromObject(row any) (bool, []byte, error) {
	k := row.(*Key)
	if k.ExpiresMs == 0 {
		return false, nil, nil
	}
	at := binary.BigEndian.AppendUint64(nil, uint64(k.ExpiresMs))
	return true, append(at, compose(k.Org, k.Endpoint, k.Key)...), nil
}

func (expiryIndex) FromArgs(args ...any) ([]byte, error) {
	if ms, ok := args[0].(int64); ok && len(args) == 1 {
		return binary.BigEndian.AppendUint64(nil, uint64(ms)), nil
	}
	return nil, badArgs(tableKeys, args)
}
