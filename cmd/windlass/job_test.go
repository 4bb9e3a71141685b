package main

import (
	"encoding/json"
	"strings"
	"testing"

	"windlass/protocol"
)

func TestListInEveryFormat(t *testing.T) {
	f := &fakeAPI{job: completed()}
	id := theJob().String()
	for format, wanted := range map[string]string{
		formatTable: "completed  ep_x", formatJSON: `"data": [`, formatJSONL: `"endpointId":"ep_x"`, formatYAML: "status: completed", formatName: id + "\n",
	} {
		r := cli(t, f, cliOptions{env: []string{"WINDLASS_OUTPUT=" + format}}, "job", "list")
		if r.code != 0 {
			t.Errorf("%s: %+v", format, r)
		}
		contains(t, format, r.stdout, wanted, id)
	}
}

func TestOutputFlagWinsOverEnvironment(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed()}, cliOptions{env: []string{"WINDLASS_OUTPUT=yaml"}}, "job", "list", "-o", "json")
	if !json.Valid([]byte(r.stdout)) {
		t.Fatalf("%+v", r)
	}
}

func TestAPrefixIsEnough(t *testing.T) {
	id := theJob().String()
	for _, prefix := range []string{id, id[:12], strings.ToLower(id[4:14])} {
		if r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "job", "status", prefix, "-o", "name"); r.code != 0 || r.stdout != id+"\n" {
			t.Errorf("%s: %+v", prefix, r)
		}
	}
	if r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "job", "status", "job_7ZZZZZZZ"); r.code != exitNotFound {
		t.Errorf("unknown: %+v", r)
	}
	if r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "job", "status", "01"); r.code != exitUsage {
		t.Errorf("too short: %+v", r)
	}
}

func TestOutputIsTheBareDocument(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "job", "output", theJob().String())
	if r.code != 0 || r.stdout != "{\"text\":\"hi\"}\n" || r.err != "" {
		t.Fatalf("%+v", r)
	}
}

func TestFollowedLogsComeOnce(t *testing.T) {
	f := &fakeAPI{job: completed(), logs: []protocol.LogLine{
		{Time: 1700000000000, Source: "stderr", Line: "one"}, {Time: 1700000000001, Source: "stdout", Line: "two\x1b[2J"},
	}}
	r := cli(t, f, cliOptions{}, "job", "logs", "-f", theJob().String())
	if r.code != 0 || strings.Count(r.stdout, "one") != 1 || strings.Count(r.stdout, "two") != 1 || strings.Contains(r.stdout, "\x1b") {
		t.Fatalf("%+v", r)
	}
}

func TestCancelShowsTheJob(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "job", "cancel", theJob().String())
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	contains(t, "stdout", r.stdout, "cancelled", "it broke [31m")
}

func TestCompletionOffersWhatIsThere(t *testing.T) {
	f := &fakeAPI{job: completed()}
	contains(t, "jobs", cli(t, f, cliOptions{}, "__complete", "job", "status", "").stdout, theJob().String()+"\tcompleted ep_x")
	contains(t, "endpoints", cli(t, f, cliOptions{}, "__complete", "run", "").stdout, "ep_x\tbuiltin")
	r := cliAt(t, "http://127.0.0.1:1", cliOptions{}, "__complete", "job", "status", "")
	if r.code != 0 || strings.Contains(r.stdout, "job_") {
		t.Fatalf("without a coordinator: %+v", r)
	}
}

func TestAShortPageIsFilled(t *testing.T) {
	f := &fakeAPI{job: completed()}
	if r := cli(t, f, cliOptions{}, "job", "list", "-o", "json"); r.code != 0 || strings.Contains(r.stdout, "nextCursor") {
		t.Fatalf("%+v", r)
	}
	if r := cli(t, f, cliOptions{}, "job", "list", "--limit", "1"); r.code != 0 || !strings.Contains(r.err, "--cursor more") {
		t.Fatalf("%+v", r)
	}
}
