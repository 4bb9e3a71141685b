package agent

import (
	"strings"
	"testing"

	"windlass/protocol"
)

// TestDocumentsOfTwoOrganisations: endpoints of two organisations may have one id;
// what runs is the document of the job's own.
func TestDocumentsOfTwoOrganisations(t *testing.T) {
	kind := func(org, kind string) protocol.Endpoint {
		return protocol.Endpoint{ID: "ep", Org: org, Revision: 1, Runtime: protocol.RuntimeSpec{Kind: kind}}
	}
	a := &Agent{table: newTable(2)}
	a.cfg.Runtimes.Allow = []AllowRule{{Kind: "first"}, {Kind: "second"}}
	a.table.learn([]protocol.Endpoint{kind(protocol.OrgDefault, "first"), kind("org_b", "second")})
	for org, want := range map[string]string{protocol.OrgDefault: "first", "org_b": "second"} {
		doc, why := a.admit(protocol.Assignment{Endpoint: "ep", Revision: 1, Org: org})
		if why != "" || doc.Org != org || doc.Runtime.Kind != want {
			t.Errorf("a job of %s would run %+v, refused because %q", org, doc, why)
		}
		spec, err := a.spec(doc)
		if err != nil || spec.Endpoint != protocol.EndpointName(org, "ep") {
			t.Errorf("its instances are %q, %v", spec.Endpoint, err)
		}
	}
	if _, why := a.admit(protocol.Assignment{Endpoint: "ep", Revision: 1, Org: "org_c"}); why == "" {
		t.Error("a job of an organisation without a document was admitted")
	}
	if got := a.table.revisions(); got["ep"] != 1 || got["org_b/ep"] != 1 || len(got) != 2 {
		t.Errorf("the agent says that it knows %v", got)
	}
	a.cfg.Orgs = []string{"org_b"}
	if _, why := a.admit(protocol.Assignment{Endpoint: "ep", Revision: 1, Org: protocol.OrgDefault}); !strings.Contains(why, "orgs") {
		t.Errorf("a job of an organisation that the agent does not allow: %q", why)
	}
}
