package command

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "write golden files that are missing; existing ones are never changed")

func id(kind byte) []byte { return append(bytes.Repeat([]byte{0}, 15), kind) }

func hash() []byte { return bytes.Repeat([]byte{0xab}, hashSize) }

func inline(s string) *Payload { return &Payload{Inline: []byte(s)} }

func blob() *Payload { return &Payload{Sha256: hash(), Size: 70_000} }

// samples returns one command of every kind with every field set, and some more.
func samples() map[string]*Command {
	all := map[string]*Command{
		"submit": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_default", Endpoint: "ep_echo", Priority: 2, Input: inline(`{"a":1}`),
			Tags: []*Tag{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}, CallbackUrl: "https://example.com/hook",
			IdempotencyKey: "key-1", PayloadHash: hash(), ExecutionMs: 600_000, TtlMs: 86_400_000,
			MaxAttempts: 3, MaxLosses: 3, QueueLimit: 100_000, RetryTimeout: true,
		}}},
		"submit_s3": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_default", Endpoint: "ep_echo", Priority: 4, Input: inline(`[1]`), S3Config: []byte(`{"accessId":"a"}`),
		}}},
		"finish_paused": {Op: &Command_Finish{Finish: &Finish{
			Job: id(1), Attempt: 5, Agent: id(2), Incarnation: id(3), Outcome: "paused", EndedMs: 1_700_000_001_000,
			Checkpoint: inline(`{"step":3}`),
		}}},
		"pause":          {Op: &Command_Pause{Pause: &Pause{Job: id(1), Org: "org_default", ExpectIndex: 40}}},
		"resume":         {Op: &Command_Resume{Resume: &Resume{Job: id(1), Org: "org_default", ExpectIndex: 41}}},
		"pause_endpoint": {Op: &Command_PauseEndpoint{PauseEndpoint: &PauseEndpoint{Org: "org_default", Id: "ep_echo", Paused: true}}},
		"purge": {Op: &Command_Purge{Purge: &Purge{
			Purge: "prg_01", Org: "org_default", Endpoint: "ep_echo", Jobs: [][]byte{id(1), id(4)},
		}}},
		"submit_blob": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_default", Endpoint: "ep_echo", Priority: 3, Input: blob(),
		}}},
		"lease": {Op: &Command_Lease{Lease: &Lease{
			Job: id(1), ExpectAttempt: 4, Agent: id(2), Incarnation: id(3), Revision: 7, Reason: "warm",
		}}},
		"finish": {Op: &Command_Finish{Finish: &Finish{
			Job: id(1), Attempt: 5, Agent: id(2), Incarnation: id(3), Outcome: "failed", Output: inline(`{"b":2}`),
			ErrorCode: "HANDLER_ERROR", ErrorMessage: "it broke", ErrorDetails: []byte(`{"line":3}`), Retryable: true,
			Partial: []byte(`[1]`), StartedMs: 1_700_000_000_000, EndedMs: 1_700_000_001_000, Facts: []byte(`{"usage":{}}`),
			Logs: inline(`[]`), Chunks: blob(), NotBeforeMs: 1_700_000_002_000,
		}}},
		"release": {Op: &Command_Release{Release: &Release{
			Job: id(1), Attempt: 5, Agent: id(2), Incarnation: id(3), Reason: Release_LOST, NotBeforeMs: 9, Detail: "expired",
		}}},
		"expire_ttl": {Op: &Command_ExpireTtl{ExpireTtl: &ExpireTTL{Job: id(1)}}},
		"cancel":     {Op: &Command_Cancel{Cancel: &Cancel{Job: id(1), Org: "org_default"}}},
		"reopen":     {Op: &Command_Reopen{Reopen: &Reopen{Job: id(1), Org: "org_default", ExpectRun: 2}}},
		"register": {Op: &Command_Register{Register: &Register{
			Agent: id(2), Name: "gpu-1", Incarnation: id(3), Held: []*Held{{Job: id(1), Attempt: 5}},
			Facts: []byte(`{"slots":2}`), Org: "org_default",
		}}},
		"adopt": {Op: &Command_Adopt{Adopt: &Adopt{Job: id(1), FromAttempt: 5, Agent: id(2), Incarnation: id(3)}}},
		"put_endpoint": {Op: &Command_PutEndpoint{PutEndpoint: &PutEndpoint{
			Org: "org_default", Id: "ep_echo", Doc: []byte(`{"id":"ep_echo"}`), ExpectRevision: 3, Create: true,
		}}},
		"delete_endpoint": {Op: &Command_DeleteEndpoint{DeleteEndpoint: &DeleteEndpoint{Org: "org_default", Id: "ep_echo"}}},
		"evict":           {Op: &Command_Evict{Evict: &Evict{Jobs: [][]byte{id(1), id(4)}}}},
		"put_settings":    {Op: &Command_PutSettings{PutSettings: &PutSettings{MaxBytes: 1 << 30}}},
		"checkpoint":      {Op: &Command_Checkpoint{Checkpoint: &Checkpoint{}}},
		"set_feature":     {Op: &Command_SetFeature{SetFeature: &SetFeature{Level: 2}}},
		"put_org": {Op: &Command_PutOrg{PutOrg: &PutOrg{
			Id: "org_acme", Name: "Acme", Weight: 3, QueueLimit: 1000, MaxRunning: 8, StorageQuota: 1 << 40, Credits: true,
			ExpectRevision: 4, Create: true,
		}}},
		"delete_org": {Op: &Command_DeleteOrg{DeleteOrg: &DeleteOrg{Id: "org_acme"}}},
		"create_key": {Op: &Command_CreateKey{CreateKey: &CreateKey{
			Id: id(7), Org: "org_acme", Name: "ci", Permissions: []string{"endpoints:execute", "jobs:read"},
			Endpoints: []string{"ep_a", "ep_b"}, Hash: hash(), ExpiresMs: 1_800_000_000_000,
		}}},
		"rotate_key":    {Op: &Command_RotateKey{RotateKey: &RotateKey{Id: id(7), Org: "org_acme", Hash: hash(), ExpectHash: hash(), OverlapMs: 60_000}}},
		"revoke_key":    {Op: &Command_RevokeKey{RevokeKey: &RevokeKey{Id: id(7), Org: "org_acme"}}},
		"grant_credits": {Op: &Command_GrantCredits{GrantCredits: &GrantCredits{Org: "org_acme", Id: id(5), Amount: 25_000_000_000}}},
		"submit_reserve": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_acme", Endpoint: "ep_echo", Priority: 3, Input: inline(`{}`), Reserve: 240_000_000,
		}}},
		"reopen_reserve": {Op: &Command_Reopen{Reopen: &Reopen{Job: id(1), Org: "org_acme", ExpectRun: 2, Reserve: 240_000_000}}},
		"archive": {Op: &Command_Archive{Archive: &Archive{
			Number: 9, Replaces: []uint64{7, 8}, Jobs: []*Archived{{Job: id(1), Index: 40}, {Job: id(4), Index: 41}},
			Segment: &Segment{
				Number: 9, Sha256: hash(), Size: 100_000, IndexOffset: 90_000, IndexSha256: hash(), First: id(1), Last: id(4), Jobs: 2,
				OldestEndMs: 1_700_000_000_000, NewestEndMs: 1_700_000_001_000,
			},
		}}},
		"drop_segment": {Op: &Command_DropSegment{DropSegment: &DropSegment{Numbers: []uint64{7, 8}, EndedBeforeMs: 1_700_000_000_000}}},
		"recall":       {Op: &Command_Recall{Recall: &Recall{Job: id(1), Record: []byte{1, 2, 3}, Newest: 9}}},
		"submit_webhook": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_default", Endpoint: "ep_echo", Priority: 3, Input: blob(),
			CallbackUrl: "https://example.com/hook", CallbackBase: "https://windlass.example.com",
		}}},
		"put_webhook_secret": {Op: &Command_PutWebhookSecret{PutWebhookSecret: &PutWebhookSecret{
			Id: id(7), Org: "org_default", Key: hash(), Rotate: true, OverlapMs: 86_400_000,
		}}},
		"put_webhook_secret_automatic": {Op: &Command_PutWebhookSecret{PutWebhookSecret: &PutWebhookSecret{Id: id(7), Org: "org_default", Key: hash(), Automatic: true}}},
		"drop_webhook_secret":          {Op: &Command_DropWebhookSecret{DropWebhookSecret: &DropWebhookSecret{Id: id(7), Org: "org_default"}}},
		"record_delivery": {Op: &Command_RecordDelivery{RecordDelivery: &RecordDelivery{
			Job: id(1), Run: 2, Attempt: 3, Outcome: RecordDelivery_RETRY, NextMs: 1_700_000_120_000, StartedMs: 1_700_000_000_000, LatencyMs: 250,
			Status: 503, Error: "the receiver answered 503", Answer: "busy",
		}}},
		"redeliver": {Op: &Command_Redeliver{Redeliver: &Redeliver{Job: id(1), Org: "org_default", ExpectAttempt: 5}}},
	}
	maps.Copy(all, outputSamples())
	return all
}

// outputSamples are those of stored outputs and costs.
func outputSamples() map[string]*Command {
	return map[string]*Command{
		"cancel_running": {Op: &Command_Cancel{Cancel: &Cancel{
			Job: id(1), Org: "org_default", Attempt: 5, StartedMs: 1_700_000_000_000, Facts: []byte(`{"usage":{}}`),
		}}},
		"finish_files": {Op: &Command_Finish{Finish: &Finish{
			Job: id(1), Attempt: 5, Agent: id(2), Incarnation: id(3), Outcome: "completed",
			Files: []*File{{Name: "report.pdf", Sha256: hash(), Size: 2_400_000}, {Name: "a", Sha256: hash()}},
		}}},
		"submit_expected": {Op: &Command_Submit{Submit: &Submit{
			Job: id(1), Org: "org_default", Endpoint: "ep_echo", Priority: 3, ExpectedOutput: 2_400_000,
		}}},
		"expire_outputs":     {Op: &Command_ExpireOutputs{ExpireOutputs: &ExpireOutputs{}}},
		"put_cluster_secret": {Op: &Command_PutClusterSecret{PutClusterSecret: &PutClusterSecret{Secret: hash()}}},
	}
}

const clock = 1_700_000_000_123

func TestGoldenBytes(t *testing.T) {
	for name, c := range samples() {
		entry, err := Marshal(clock, []*Command{c})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := filepath.Join("testdata", name+".golden")
		want, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && *update {
			want = entry
			if err := os.WriteFile(file, entry, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Fatalf("%s: %v; a new command gets its file with -update", name, err)
		}
		if !bytes.Equal(entry, want) {
			t.Errorf("%s: the bytes changed; logs in use could not be read\n got %x\nwant %x", name, entry, want)
		}
		batch, err := Unmarshal(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if batch.GetClockMs() != clock || len(batch.GetCommands()) != 1 || !proto.Equal(batch.GetCommands()[0], c) {
			t.Errorf("%s: reads back as %v", name, batch)
		}
	}
}

// TestGoldenIsComplete keeps the golden files a statement about every command
// and every field. A field that came later has a sample of its own: the bytes of
// the older ones never change.
func TestGoldenIsComplete(t *testing.T) {
	set := make(map[protoreflect.FullName]bool)
	for name, c := range samples() {
		m := c.ProtoReflect()
		op := m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))
		set[op.FullName()] = true
		m.Get(op).Message().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			set[f.FullName()] = true
			return true
		})
		if !strings.HasPrefix(name, string(op.Name())) {
			t.Errorf("the sample %s is of %s", name, op.Name())
		}
	}
	ops := (&Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range ops.Len() {
		op := ops.Get(i)
		if !set[op.FullName()] {
			t.Errorf("no sample of %s", op.Name())
		}
		fields := op.Message().Fields()
		for j := range fields.Len() {
			if !set[fields.Get(j).FullName()] {
				t.Errorf("no sample of %s sets %s", op.Name(), fields.Get(j).Name())
			}
		}
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	for name, c := range samples() {
		entry, err := Marshal(clock, []*Command{c})
		if err != nil {
			t.Fatal(err)
		}
		for i := range entry {
			for _, mask := range []byte{1, 0x80, 0xff} {
				damaged := bytes.Clone(entry)
				damaged[i] ^= mask
				if _, err := Unmarshal(damaged); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s: byte %d flipped by %x: %v", name, i, mask, err)
				}
			}
			if _, err := Unmarshal(entry[:i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: cut to %d bytes: %v", name, i, err)
			}
		}
	}
}

// sealed makes an entry with a right checksum around anything.
func sealed(version byte, body []byte) []byte {
	entry := append(make([]byte, headerSize), body...)
	entry[0] = version
	sum := checksum(entry)
	for i := range 4 {
		entry[1+i] = byte(sum >> (8 * i))
	}
	return entry
}

func TestNewerEntriesAreRefused(t *testing.T) {
	body := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	batchOf := func(c *Command) *Batch { return &Batch{Commands: []*Command{c}} }
	withUnknown := func(m proto.Message) { m.ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x07, 1}) }
	inBatch, inCommand := batchOf(samples()["cancel"]), batchOf(samples()["cancel"])
	withUnknown(inBatch)
	withUnknown(inCommand.Commands[0])
	cases := map[string][]byte{
		"version":           sealed(2, body(batchOf(samples()["cancel"]))),
		"no operation":      sealed(1, body(batchOf(&Command{}))),
		"field of batch":    sealed(1, body(inBatch)),
		"field of command":  sealed(1, body(inCommand)),
		"unknown operation": sealed(1, []byte{0x12, 3, 0xfa, 0x07, 0}),
	}
	for name, c := range samples() {
		m := c.ProtoReflect()
		op := m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))
		withUnknown(m.Get(op).Message().Interface())
		cases["field of "+name] = sealed(1, body(batchOf(c)))
	}
	nested := samples()["finish"]
	withUnknown(nested.GetFinish().GetChunks())
	cases["field of a payload"] = sealed(1, body(batchOf(nested)))
	segment, archived := samples()["archive"], samples()["archive"]
	withUnknown(segment.GetArchive().GetSegment())
	withUnknown(archived.GetArchive().GetJobs()[1])
	cases["field of a segment"], cases["field of an archived job"] = sealed(1, body(batchOf(segment))), sealed(1, body(batchOf(archived)))
	for name, entry := range cases {
		if _, err := Unmarshal(entry); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", name, err)
		}
	}
	if _, err := Unmarshal(sealed(1, []byte{0xff})); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no protobuf: %v, want ErrCorrupt", err)
	}
}

func TestInvalidCommandsAreRefused(t *testing.T) {
	cases := map[string]func(map[string]*Command) *Command{
		"nil":       func(map[string]*Command) *Command { return nil },
		"empty":     func(map[string]*Command) *Command { return &Command{} },
		"no submit": func(map[string]*Command) *Command { return &Command{Op: &Command_Submit{}} },
		"short id":  func(m map[string]*Command) *Command { m["submit"].GetSubmit().Job = id(1)[1:]; return m["submit"] },
		"zero id": func(m map[string]*Command) *Command {
			m["lease"].GetLease().Agent = make([]byte, 16)
			return m["lease"]
		},
		"no endpoint": func(m map[string]*Command) *Command { m["submit"].GetSubmit().Endpoint = ""; return m["submit"] },
		"zero byte":   func(m map[string]*Command) *Command { m["submit"].GetSubmit().Org = "a\x00b"; return m["submit"] },
		"priority":    func(m map[string]*Command) *Command { m["submit"].GetSubmit().Priority = 257; return m["submit"] },
		"no hash":     func(m map[string]*Command) *Command { m["submit"].GetSubmit().PayloadHash = nil; return m["submit"] },
		"blob hash": func(m map[string]*Command) *Command {
			m["submit_blob"].GetSubmit().Input.Sha256 = id(1)
			return m["submit_blob"]
		},
		"both payloads": func(m map[string]*Command) *Command {
			m["submit_blob"].GetSubmit().Input.Inline = id(1)
			return m["submit_blob"]
		},
		"tag text": func(m map[string]*Command) *Command {
			m["submit"].GetSubmit().Tags[0].Value = "\xff"
			return m["submit"]
		},
		"outcome": func(m map[string]*Command) *Command { m["finish"].GetFinish().Outcome = "done"; return m["finish"] },
		"message text": func(m map[string]*Command) *Command {
			m["finish"].GetFinish().ErrorMessage = "\xff"
			return m["finish"]
		},
		"reason":    func(m map[string]*Command) *Command { m["release"].GetRelease().Reason = 9; return m["release"] },
		"no reason": func(m map[string]*Command) *Command { m["release"].GetRelease().Reason = 0; return m["release"] },
		"held": func(m map[string]*Command) *Command {
			m["register"].GetRegister().Held[0].Job = nil
			return m["register"]
		},
		"evicted": func(m map[string]*Command) *Command { m["evict"].GetEvict().Jobs[1] = nil; return m["evict"] },
		"settings": func(m map[string]*Command) *Command {
			m["put_settings"].GetPutSettings().MaxBytes = -1
			return m["put_settings"]
		},
		"level": func(m map[string]*Command) *Command {
			m["set_feature"].GetSetFeature().Level = 0
			return m["set_feature"]
		},
	}
	for name, change := range map[string]func(*Archive){
		"segment number": func(a *Archive) { a.Segment.Number = 8 },
		"no number":      func(a *Archive) { a.Number, a.Segment = 0, nil },
		"replaces newer": func(a *Archive) { a.Replaces[0] = 9 },
		"replaces alone": func(a *Archive) { a.Segment = nil },
		"segment hash":   func(a *Archive) { a.Segment.Sha256 = id(1) },
		"index hash":     func(a *Archive) { a.Segment.IndexSha256 = nil },
		"index offset":   func(a *Archive) { a.Segment.IndexOffset = a.Segment.Size },
		"segment range":  func(a *Archive) { a.Segment.First = id(5) },
		"segment ends":   func(a *Archive) { a.Segment.OldestEndMs = a.Segment.NewestEndMs + 1 },
		"empty segment":  func(a *Archive) { a.Segment.Jobs = 0 },
		"archived job":   func(a *Archive) { a.Jobs[1].Job = nil },
	} {
		cases[name] = func(m map[string]*Command) *Command { change(m["archive"].GetArchive()); return m["archive"] }
	}
	cases["dropped number"] = func(m map[string]*Command) *Command {
		m["drop_segment"].GetDropSegment().Numbers[0] = 0
		return m["drop_segment"]
	}
	for name, change := range map[string]func(*Purge){
		"purge name":   func(p *Purge) { p.Purge = "" },
		"purged job":   func(p *Purge) { p.Jobs[0] = nil },
		"purged twice": func(p *Purge) { p.Jobs[1] = p.Jobs[0] },
		"purge size": func(p *Purge) {
			p.Jobs = nil
			for n := range MaxPurge + 1 {
				p.Jobs = append(p.Jobs, append(make([]byte, 14), byte(n>>8)+1, byte(n)))
			}
		},
	} {
		cases[name] = func(m map[string]*Command) *Command { change(m["purge"].GetPurge()); return m["purge"] }
	}
	cases["no record"] = func(m map[string]*Command) *Command { m["recall"].GetRecall().Record = nil; return m["recall"] }
	invalidAccess(cases)
	maps.Copy(cases, invalidWebhooks())
	maps.Copy(cases, invalidCredits())
	for name, make := range cases {
		c := make(samples())
		if _, err := Marshal(clock, []*Command{c}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	large := samples()["submit"]
	large.GetSubmit().Input = inline(strings.Repeat("x", MaxEntry))
	if _, err := Marshal(clock, []*Command{large}); !errors.Is(err, ErrInvalid) {
		t.Errorf("too large: %v, want ErrInvalid", err)
	}
}

// invalidAccess adds commands about organisations and keys that are refused.
func invalidAccess(cases map[string]func(map[string]*Command) *Command) {
	cases["weight"] = func(m map[string]*Command) *Command { m["put_org"].GetPutOrg().Weight = 0; return m["put_org"] }
	cases["quota"] = func(m map[string]*Command) *Command { m["put_org"].GetPutOrg().StorageQuota = -1; return m["put_org"] }
	cases["no organisation"] = func(m map[string]*Command) *Command { m["delete_org"].GetDeleteOrg().Id = ""; return m["delete_org"] }
	for name, change := range map[string]func(*CreateKey, *RotateKey, *RevokeKey){
		"key id":          func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.Id = nil },
		"key org":         func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.Org = "" },
		"key hash":        func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.Hash = k.Hash[1:] },
		"key expiry":      func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.ExpiresMs = -1 },
		"key permissions": func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.Permissions[0] = "z" },
		"key endpoints":   func(k *CreateKey, _ *RotateKey, _ *RevokeKey) { k.Endpoints[0] = "" },
		"expected hash":   func(_ *CreateKey, r *RotateKey, _ *RevokeKey) { r.ExpectHash = nil },
		"overlap":         func(_ *CreateKey, r *RotateKey, _ *RevokeKey) { r.OverlapMs = -1 },
		"revoked id":      func(_ *CreateKey, _ *RotateKey, r *RevokeKey) { r.Id = nil },
	} {
		for _, op := range []string{"create_key", "rotate_key", "revoke_key"} {
			all := samples()
			change(all["create_key"].GetCreateKey(), all["rotate_key"].GetRotateKey(), all["revoke_key"].GetRevokeKey())
			if !proto.Equal(all[op], samples()[op]) {
				cases[name] = func(map[string]*Command) *Command { return all[op] }
			}
		}
	}
}

// TestUnmarshalCopies: a row that keeps a payload must not keep the whole entry.
func TestUnmarshalCopies(t *testing.T) {
	entry, err := Marshal(clock, []*Command{samples()["submit"]})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := Unmarshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	clear(entry)
	if !proto.Equal(batch.GetCommands()[0], samples()["submit"]) {
		t.Error("the batch changed with the entry's memory")
	}
}

func TestMarshalAllocations(t *testing.T) {
	cmds := []*Command{samples()["submit"], samples()["finish"], samples()["lease"]}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := Marshal(clock, cmds); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 2 { // the batch's message and the entry
		t.Errorf("Marshal allocates %v times, at most 2 are expected", allocs)
	}
}

func FuzzUnmarshal(f *testing.F) {
	var all []*Command
	for name, c := range samples() {
		entry, err := Marshal(clock, []*Command{c})
		if err != nil {
			f.Fatal(name, err)
		}
		f.Add(entry[headerSize:])
		all = append(all, c)
	}
	entry, err := Marshal(clock, all)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(entry[headerSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := Unmarshal(body); err == nil {
			return // the fuzzer may find a whole entry
		}
		batch, err := Unmarshal(sealed(envelopeVersion, body))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrInvalid) {
				t.Fatalf("error without a type: %v", err)
			}
			return
		}
		entry, err := Marshal(batch.GetClockMs(), batch.GetCommands())
		if err != nil {
			t.Fatalf("cannot marshal what was read: %v", err)
		}
		again, err := Unmarshal(entry)
		if err != nil || !proto.Equal(again, batch) {
			t.Fatalf("reads back as %v (%v), want %v", again, err, batch)
		}
	})
}

func BenchmarkMarshal(b *testing.B) {
	cmds := make([]*Command, 64)
	for i := range cmds {
		cmds[i] = samples()["submit"]
		cmds[i].GetSubmit().Input = inline(strings.Repeat("x", 1024))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(clock, cmds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cmds)), "ns/command")
}

func BenchmarkUnmarshal(b *testing.B) {
	cmds := make([]*Command, 64)
	for i := range cmds {
		cmds[i] = samples()["submit"]
		cmds[i].GetSubmit().Input = inline(strings.Repeat("x", 1024))
	}
	entry, err := Marshal(clock, cmds)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Unmarshal(entry); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cmds)), "ns/command")
}
