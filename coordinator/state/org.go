package state

import "windlass/protocol"

// Org is an organisation: what an administrator sets, what it has, and what is
// counted of it. A row that only counts, of an organisation that nobody made, has
// Revision 0.
type Org struct {
	ID           string
	Name         string
	Weight       uint32 // of its share between organisations; at least 1
	QueueLimit   uint32 // jobs that may wait; 0: the limit that a Submit carries
	MaxRunning   uint32 // jobs that may run at once; 0: no limit
	StorageQuota int64  // bytes of stored outputs; 0: no limit
	Credits      Credits
	CreatedMs    int64
	DeletedMs    int64 // set for ever once it is deleted: ids are not used twice
	Revision     uint64
	Index        uint64 // raft index of the last change by an administrator

	OrgCounts
}

// OrgCounts is what is counted of an organisation; it is derived from other rows.
type OrgCounts struct {
	Queued    int // jobs that wait
	Endpoints int
	Stored    int64 // bytes of stored outputs
}

// Credits is the money of an organisation in nano-units.
type Credits struct {
	Enabled  bool // else its jobs cost nothing
	Balance  int64
	Reserved int64 // of the balance, for jobs that have not ended

	// Grants are the ids of the newest grants, the oldest first, so that one that
	// is proposed again has its effect once.
	Grants [][16]byte
}

// Free is what a submit may still reserve.
func (c *Credits) Free() int64 { return c.Balance - c.Reserved }

// exists reports whether somebody made the organisation and nobody deleted it.
func (o *Org) exists() bool { return o != nil && o.Revision > 0 && o.DeletedMs == 0 }

// known returns the organisation that a row stands for, or nil. The first one
// exists before anybody wrote it.
func known(id string, row *Org) *Org {
	if row.exists() {
		return row
	}
	if id != protocol.OrgDefault {
		return nil
	}
	first := Org{ID: id, Name: "Default", Weight: 1, Revision: 1}
	if row != nil {
		first.OrgCounts = row.OrgCounts
	}
	return &first
}

// Org returns an organisation, or nil.
func (v *View) Org(id string) *Org {
	return known(id, first[Org](v.tables, tableOrgs, &id))
}

// Orgs returns the organisations, sorted by id.
func (v *View) Orgs() []*Org {
	var out []*Org
	written := false
	for o := range rows[Org](v.tables, tableOrgs, new(string)) {
		if o.ID >= protocol.OrgDefault && !written {
			out, written = append(out, v.Org(protocol.OrgDefault)), true
		}
		if o.exists() && o.ID != protocol.OrgDefault {
			out = append(out, o)
		}
	}
	if !written {
		out = append(out, v.Org(protocol.OrgDefault))
	}
	return out
}

// OrgRows calls fn for the row of every organisation that was ever written, also
// of the deleted ones, in the order of their ids.
func (v *View) OrgRows(fn func(*Org)) {
	for o := range rows[Org](v.tables, tableOrgs, new(string)) {
		if o.Revision > 0 {
			fn(o)
		}
	}
}

// Org returns an organisation, or nil.
func (t *Txn) Org(id string) *Org { return known(id, t.orgs.get(t.base, id)) }

// QueueLimit returns how many jobs of an organisation may wait; 0: that is not set.
func (t *Txn) QueueLimit(id string) uint32 {
	if o := t.orgs.get(t.base, id); o != nil {
		return o.QueueLimit
	}
	return 0
}

// OrgDeleted reports whether the id was that of an organisation that is deleted.
func (t *Txn) OrgDeleted(id string) bool {
	o := t.orgs.get(t.base, id)
	return o != nil && o.DeletedMs != 0
}

// PutOrg writes an organisation; its counts are the transaction's affair.
func (t *Txn) PutOrg(o *Org) {
	before := t.orgs.get(t.base, o.ID)
	own := *o
	own.OrgCounts = OrgCounts{}
	if before != nil {
		own.OrgCounts = before.OrgCounts
	}
	at, _ := t.orgs.put(t.base, o.ID, &own)
	if t.orgs.announce(at) {
		t.order = append(t.order, announced{tableOrgs, at})
	}
	if before != nil && before.Revision > 0 {
		t.bytes -= before.Size()
	}
	t.bytes += own.Size()
}

// ownOrg returns the transaction's own copy of a row, to count in.
func (t *Txn) ownOrg(id string) *Org {
	if o, ok := t.orgs.edited(id); ok {
		return o
	}
	own := Org{ID: id}
	if before := t.orgs.get(t.base, id); before != nil {
		own = *before
	}
	t.orgs.put(t.base, id, &own)
	return &own
}
