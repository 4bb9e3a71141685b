package coordinator

import (
	"testing"
	"testing/synctest"

	"windlass/coordinator/command"
	"windlass/coordinator/consensus"
)

func TestFeatureLevelIsWhatAllSupport(t *testing.T) {
	member := func(low, high uint32) consensus.Member {
		return consensus.Member{Joined: true, Description: consensus.Description{Features: [2]uint32{low, high}}}
	}
	stranger := member(1, 1)
	stranger.Joined = false
	newest := member(command.FeatureMin, command.FeatureMax)
	for name, c := range map[string]struct {
		members []consensus.Member
		want    uint32
	}{
		"all are new":              {[]consensus.Member{newest, newest, newest}, command.FeatureMax},
		"one is old":               {[]consensus.Member{newest, member(1, 1), newest}, command.FeatureBase},
		"one has not told":         {[]consensus.Member{newest, member(0, 0), newest}, command.FeatureBase},
		"one is newer than this":   {[]consensus.Member{newest, member(1, command.FeatureMax+5), newest}, command.FeatureMax},
		"who is no member is mute": {[]consensus.Member{newest, stranger}, command.FeatureMax},
	} {
		if got := commonFeature(c.members); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestLeaderRaisesTheFeatureLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, consensus.NewMemory(), nil)
		defer l.end()
		pass(featurePeriod)
		synctest.Wait()
		if got := l.feature(); got != command.FeatureMax {
			t.Errorf("level is %d, want %d", got, command.FeatureMax)
		}
	})
}
