package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"windlass/inference/builtin/engine"
)

// quality is what stories are like, out of Stories.
type quality struct {
	Stories int // told for each of the two groups
	Known   group
	Unseen  group
}

// group is the figures of one group of names.
type group struct {
	NameKept  int // the hero's name comes up twice or more in the continuation
	StrayName int // more than one other name comes up
	Ended     int // the model ended the story itself
	ColorHeld int // no second colour comes up
}

const (
	// perName stories are told of each of 20 names: 60 for a group.
	perName     = 3
	evalTokens  = 200
	temperature = 0.6
	topK        = 40
)

// evaluate tells stories of names that training used and of names that it did
// not, and counts what goes wrong.
func evaluate(m *engine.Model) (quality, error) {
	lex := newLexicon()
	unseen := strings.Fields("Priya Quentin Boris Greta Yusuf Amara Linus Dolores Kenji Walter Saoirse Pablo Ingrid Tariq Bianca Edgar Fatima Gordon Helga Ivan")
	q := quality{Stories: perName * len(unseen)}
	for _, set := range []struct {
		names []string
		into  *group
	}{{lex.names[:len(unseen)], &q.Known}, {unseen, &q.Unseen}} {
		for i, name := range set.names {
			for j := range perName {
				if err := set.into.tell(m, lex, name, i, j); err != nil {
					return quality{}, err
				}
			}
		}
	}
	return q, nil
}

func (g *group) tell(m *engine.Model, lex *lexicon, name string, i, j int) error {
	kind := lex.kinds[(i+3*j)%len(lex.kinds)]
	prompt := fmt.Sprintf("Once upon a time, a brave %s named %s lived by the river.", kind, name)
	var b strings.Builder
	o := engine.Options{MaxTokens: evalTokens, Temperature: temperature, TopK: topK, Seed: uint64(10*i + j)}
	out, err := m.Generate(context.Background(), prompt, o, func(text string, _ int) { b.WriteString(text) })
	if err != nil {
		return fmt.Errorf("cannot evaluate model: %w", err)
	}
	text := b.String()
	g.count(out.Finish == engine.FinishStop, &g.Ended)
	g.count(strings.Count(text, name) >= 2, &g.NameKept)
	g.count(len(strayNames(text, name)) > 1, &g.StrayName)
	colors := 0
	for _, c := range lex.colors {
		if strings.Contains(text, c+" ") {
			colors++
		}
	}
	g.count(colors <= 1, &g.ColorHeld)
	return nil
}

func (*group) count(yes bool, n *int) {
	if yes {
		*n++
	}
}

// strayNames returns the capitalised words that are neither the hero nor one of
// the words that begin sentences.
func strayNames(text, hero string) []string {
	common := strings.Fields("Once Every More One Then They The And From Soon Thank Where Everyone He She I At Let May No Oh But So After A An It There Please On In Under Beside Near By")
	var names []string
	for _, w := range regexp.MustCompile(`\b[A-Z][A-Za-z]*`).FindAllString(text, -1) {
		if w != hero && !slices.Contains(common, w) && !slices.Contains(names, w) {
			names = append(names, w)
		}
	}
	return names
}

// String shows the figures as the model card does.
func (q quality) String() string {
	row := func(what string, g group) string {
		return fmt.Sprintf("| %s | %d | %d | %d | %d |\n", what, g.NameKept, g.StrayName, g.ColorHeld, g.Ended)
	}
	return fmt.Sprintf("Of %d stories each, at temperature %v:\n\n", q.Stories, temperature) +
		"| hero's name | carried through | with a stray third name | one colour only | ended by itself |\n|---|---|---|---|---|\n" +
		row("in the training list", q.Known) + row("never seen", q.Unseen)
}
