package state

import (
	"bytes"
	"cmp"
	"slices"
)

// Commit writes the batch in one memdb transaction, publishes the new View and
// hands the changes to the subscribers. index is that of the last log.
func (t *Txn) Commit(index uint64) Changes {
	db := t.store.db.Txn(true)
	t.jobs.write(db)
	t.endpoints.write(db)
	t.agents.write(db)
	t.keys.write(db)
	t.orgs.write(db)
	t.secrets.write(db)
	t.stored.write(db)
	db.Commit()

	t.meta.Index = index
	changes := Changes{Index: index, List: t.changes()}
	feed := t.base.feed
	t.store.view.Store(&View{
		tables: t.store.db.Txn(false), feed: feed, meta: t.meta, bytes: t.bytes, segments: t.segments, ended: t.ended,
		apiKeys: t.apiKeys,
	})
	feed.append(changes)
	return changes
}

func (t *Txn) changes() []Change {
	list := make([]Change, 0, len(t.order))
	for _, o := range t.order {
		switch o.table {
		case tableJobs:
			e := t.jobs.edits[o.at]
			switch {
			case e.after != nil:
				list = append(list, Change{Job: e.after})
			case e.before != nil:
				list = append(list, Change{Evicted: e.before.ID})
			}
		case tableEndpoints:
			e := t.endpoints.edits[o.at]
			switch {
			case e.after != nil:
				list = append(list, Change{Endpoint: e.after})
			case e.before != nil:
				list = append(list, Change{Removed: e.before.Org + "/" + e.before.ID})
			}
		case tableAgents:
			list = append(list, Change{Agent: t.agents.edits[o.at].after})
		case tableOrgs:
			list = append(list, Change{Org: t.orgs.edits[o.at].after})
		}
	}
	return list
}

// DropExpiredKeys removes up to limit keys that are free at the given clock,
// those that became free first, and returns how many.
func (t *Txn) DropExpiredKeys(clockMs int64, limit int) int {
	var found []*Key
	it, err := t.base.tables.LowerBound(tableKeys, indexExpires, int64(0))
	must(err)
	for row := it.Next(); row != nil && len(found) < limit; row = it.Next() {
		k := row.(*Key)
		if !k.Expired(clockMs) {
			break
		}
		if _, ok := t.keys.edited(keyID{k.Org, k.Endpoint, k.Key}); !ok {
			found = append(found, k)
		}
	}
	for _, e := range t.keys.edits {
		if e.written && e.after != nil && e.after.Expired(clockMs) {
			found = append(found, e.after)
		}
	}
	slices.SortFunc(found, compareExpiry)
	found = found[:min(limit, len(found))]
	for _, k := range found {
		t.changeKey(keyID{k.Org, k.Endpoint, k.Key}, nil)
	}
	return len(found)
}

func compareExpiry(a, b *Key) int {
	return cmp.Or(cmp.Compare(a.ExpiresMs, b.ExpiresMs),
		bytes.Compare(compose(a.Org, a.Endpoint, a.Key), compose(b.Org, b.Endpoint, b.Key)))
}
