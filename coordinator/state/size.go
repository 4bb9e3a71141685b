package state

// What a row costs beside its variable parts: struct, tree nodes and key. The
// sum is what the memory limit is compared with, so it must be the same on
// every node; it is a formula, not a measurement.
const (
	jobOverhead      = 640
	leaseOverhead    = 80
	extraOverhead    = 64
	tagOverhead      = 32
	outcomeOverhead  = 272
	blobOverhead     = 48
	keyOverhead      = 1024 // two indexes
	agentOverhead    = 1024
	endpointOverhead = 1024
	orgOverhead      = 512
	apiKeyOverhead   = 512
	documentOverhead = 1024 // one revision, decoded
	deliveryOverhead = 64
	attemptOverhead  = 64
	secretsOverhead  = 512
	secretOverhead   = 128
	fileOverhead     = 80
	storedOverhead   = 512
	digestSize       = 32
)

// Size returns the bytes that the row counts for.
func (j *Job) Size() int64 {
	n := jobOverhead + j.Input.size()
	if j.Lease != nil {
		n += leaseOverhead + len(j.Lease.Reason)
	}
	if x := j.Extra; x != nil {
		n += extraOverhead + len(x.CallbackURL) + len(x.CallbackBase) + len(x.IdempotencyKey) + len(x.S3Config) + x.Checkpoint.size()
		for _, t := range x.Tags {
			n += tagOverhead + len(t.Key) + len(t.Value)
		}
	}
	if o := j.Outcome; o != nil {
		n += outcomeOverhead + o.Output.size() + o.Logs.size() + o.Chunks.size() +
			len(o.ErrCode) + len(o.ErrMessage) + len(o.ErrDetails) + len(o.Partial) + len(o.Facts) + o.Delivery.size()
		for _, f := range o.Files {
			n += fileOverhead + len(f.Name)
		}
	}
	return int64(n)
}

func (d *Delivery) size() int {
	if d == nil {
		return 0
	}
	n := deliveryOverhead
	for i := range d.Log {
		n += attemptOverhead + len(d.Log[i].Error) + len(d.Log[i].Answer)
	}
	return n
}

// Size returns the bytes that the row counts for.
func (s *WebhookSecrets) Size() int64 {
	n := secretsOverhead + 2*len(s.Org)
	for i := range s.List {
		n += secretOverhead + len(s.List[i].Key)
	}
	return int64(n)
}

func (p Payload) size() int {
	if p.Ref != nil {
		return blobOverhead
	}
	return len(p.Inline)
}

// Size returns the bytes that the row counts for.
func (k *Key) Size() int64 {
	return int64(keyOverhead + 2*(len(k.Org)+len(k.Endpoint)+len(k.Key)))
}

// Size returns the bytes that the row counts for.
func (a *Agent) Size() int64 {
	return int64(agentOverhead + len(a.Org) + len(a.Name))
}

// Size returns the bytes that the row counts for.
func (e *Endpoint) Size() int64 {
	return int64(endpointOverhead + len(e.Org) + len(e.ID) + documentOverhead*(1+len(e.Older)))
}

// Size returns the bytes that the row counts for.
func (o *Org) Size() int64 {
	return int64(orgOverhead + 2*len(o.ID) + len(o.Name) + len([16]byte{})*len(o.Credits.Grants))
}

// Size returns the bytes that the row counts for.
func (k *APIKey) Size() int64 {
	n := apiKeyOverhead + len(k.Org) + len(k.Name)
	for _, e := range k.Endpoints {
		n += tagOverhead + len(e)
	}
	return int64(n)
}

// Size returns the bytes that the row counts for.
func (s *Stored) Size() int64 {
	return int64(storedOverhead + digestSize*len(s.Blobs))
}
