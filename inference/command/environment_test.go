package command

import (
	"slices"
	"testing"
)

func TestEnvironmentHasEachNameOnce(t *testing.T) {
	got := environment([]string{"A=1", "WINDLASS_FD=9", "PYTHONPATH=/mine"}, "/h")
	slices.Sort(got)
	want := []string{"A=1", "NODE_PATH=/h", "PYTHONPATH=/mine:/h", "WINDLASS_FD=3", "WINDLASS_HANDLERS=/h"}
	if !slices.Equal(got, want) {
		t.Errorf("environment = %q, want %q", got, want)
	}
}
