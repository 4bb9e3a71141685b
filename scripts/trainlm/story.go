package main

import (
	"math/rand"
	"strings"
)

// lexicon is every word that stories are made of.
type lexicon struct {
	names, kinds, traits, places, colors, objects, spots, foods, weather, morals, syllables []string
}

func newLexicon() *lexicon {
	return &lexicon{
		names:     strings.Fields("Mia Zed Lily Tom Ada Ben Nora Max Ivy Leo Ruby Sam Ella Finn Zoe Kai Luna Otto Rosa Hugo Vera Nico Tess Olaf Wren Gus Iris Jude Kira Milo"),
		kinds:     strings.Fields("fox robot girl boy cat rabbit bear mouse owl dragon turtle sailor baker farmer bird duck frog knight"),
		traits:    strings.Fields("small brave kind shy clever happy quiet curious gentle proud lazy old young merry"),
		places:    []string{"by the river", "in the forest", "on a hill", "near the sea", "in a small town", "under a big tree", "in a tall tower", "beside the lake", "at the edge of a field", "in a warm cave"},
		colors:    strings.Fields("red blue green yellow silver golden white black purple orange"),
		objects:   strings.Fields("ball kite key lamp boat hat drum bell book shell box flute coin ring basket clock"),
		spots:     []string{"under the bridge", "behind a rock", "in the tall grass", "on the roof", "inside a hollow log", "next to the well", "in the mud", "at the top of a tree", "below the old wall", "near the gate"},
		foods:     strings.Fields("bread soup cake apples honey berries cheese pie"),
		weather:   []string{"the sun was bright", "it was raining", "the wind was strong", "snow was falling", "the sky was gray", "the moon was full"},
		morals:    []string{"it is good to share", "friends help each other", "being brave does not mean being loud", "asking for help is wise", "a kind word can fix a bad day", "it is never too late to say sorry"},
		syllables: strings.Fields("ba be bo da de di do fa fi ga go ka ki ko la le li lo ma me mi mo na ni no pa pi ra ri ro sa si so ta ti to va vi za zo"),
	}
}

func pick(r *rand.Rand, from []string) string { return from[r.Intn(len(from))] }

// name returns a known name, random letters or random syllables, a third each:
// with known names only, the model recalls a name instead of copying the user's.
func (l *lexicon) name(r *rand.Rand) string {
	switch r.Intn(3) {
	case 0:
		return pick(r, l.names)
	case 1:
		return letters(r)
	}
	name := ""
	for n := 2 + r.Intn(2); n > 0; n-- {
		name += pick(r, l.syllables)
	}
	return capital(name)
}

// letters returns a name that can be spoken, more or less.
func letters(r *rand.Rand) string {
	const consonants, vowels = "bcdfghjklmnpqrstvwxyz", "aeiouy"
	var name []byte
	vowel := r.Intn(2) == 0
	for n := 3 + r.Intn(6); len(name) < n; vowel = !vowel {
		if vowel {
			name = append(name, vowels[r.Intn(len(vowels))])
			continue
		}
		name = append(name, consonants[r.Intn(len(consonants))])
		if r.Intn(4) == 0 {
			name = append(name, consonants[r.Intn(len(consonants))])
		}
	}
	return capital(string(name))
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func article(s string) string {
	if strings.ContainsRune("aeiou", rune(s[0])) {
		return "an " + s
	}
	return "a " + s
}

// hero is a person of a story.
type hero struct{ name, kind, trait, he, his string }

// person makes a hero unlike the other one.
func (l *lexicon) person(r *rand.Rand, other hero) hero {
	for {
		h := hero{name: l.name(r), kind: pick(r, l.kinds), trait: pick(r, l.traits)}
		if h.kind == "girl" || h.kind != "boy" && r.Intn(2) == 0 {
			h.he, h.his = "she", "her"
		} else {
			h.he, h.his = "he", "his"
		}
		if h.name != other.name && h.kind != other.kind {
			return h
		}
	}
}

// tale is one story in the making. Every fact that it introduces comes up again,
// because that is what a small model can learn from it.
type tale struct {
	lex                                      *lexicon
	r                                        *rand.Rand
	a, b                                     hero
	place, thing, object, spot, food, opened string
	sentences                                []string
}

// say adds one of the sentences.
func (t *tale) say(options ...string) {
	t.sentences = append(t.sentences, options[t.r.Intn(len(options))])
}

// story returns one story of three acts.
func (l *lexicon) story(r *rand.Rand) string {
	t := &tale{lex: l, r: r}
	t.a = l.person(r, hero{})
	t.b = l.person(r, t.a)
	t.place = pick(r, l.places)
	color := pick(r, l.colors)
	t.object = pick(r, l.objects)
	t.spot, t.food = pick(r, l.spots), pick(r, l.foods)
	t.thing = color + " " + t.object
	t.begin()
	t.opened = pick(r, l.weather)
	switch r.Intn(3) {
	case 0:
		t.lost()
	case 1:
		t.shared()
	default:
		t.broken()
	}
	moral := pick(r, l.morals)
	a, b := t.a, t.b
	t.say("From that day on, "+a.name+" and "+b.name+" were best friends.", a.name+" learned that "+moral+".", "And "+a.name+" never forgot that "+moral+".")
	t.say("The end.", "")
	return strings.TrimSpace(strings.Join(t.sentences, " "))
}

func (t *tale) begin() {
	a := t.a
	t.say("Once upon a time, there was "+article(a.trait)+" "+a.kind+" named "+a.name+".",
		"Once upon a time, "+article(a.trait)+" "+a.kind+" named "+a.name+" lived "+t.place+".",
		a.name+" was "+article(a.trait)+" "+a.kind+" who lived "+t.place+".",
		"There once was "+article(a.kind)+" called "+a.name+". Everyone said "+a.name+" was "+a.trait+".")
	if !strings.Contains(t.sentences[0], "lived") {
		t.say(capital(a.he)+" lived "+t.place+".", a.name+" had a home "+t.place+".")
	}
	t.say(a.name+" had "+article(t.thing)+" and loved it very much.",
		"More than anything, "+a.name+" loved "+a.his+" "+t.thing+".",
		"Every day "+a.he+" played with "+a.his+" "+t.thing+".",
		a.name+" always carried "+article(t.thing)+".")
}

func (t *tale) lost() {
	a, b, w := t.a, t.b, t.opened
	t.say("One day, when "+w+", the "+t.object+" was gone.", "One morning "+w+" and the "+t.thing+" was lost.", "Then, one day, "+a.name+" lost the "+t.thing+".")
	t.say(a.name+" looked everywhere but could not find it.", a.name+" was very sad.", "\"Where is my "+t.object+"?\" asked "+a.name+".")
	t.say("Then "+a.he+" met "+article(b.trait)+" "+b.kind+" named "+b.name+".", capital(article(b.kind))+" called "+b.name+" came by.")
	t.say("\"I will help you,\" said "+b.name+".", b.name+" said, \"Let us look together.\"")
	t.say("They looked and looked, and at last "+b.name+" saw the "+t.object+" "+t.spot+".", "Soon they found the "+t.thing+" "+t.spot+".")
	t.say(a.name+" hugged "+b.name+" and said thank you.", "\"Thank you, "+b.name+"!\" said "+a.name+".", a.name+" was so happy that "+a.he+" gave "+b.name+" some "+t.food+".")
}

func (t *tale) shared() {
	a, b, w := t.a, t.b, t.opened
	t.say("One day, when "+w+", "+a.name+" met "+article(b.kind)+" named "+b.name+".", "One morning "+w+" and "+article(b.trait)+" "+b.kind+" named "+b.name+" came to visit.")
	t.say("\"May I play with your "+t.object+"?\" asked "+b.name+".", b.name+" wanted to try the "+t.thing+" too.")
	t.say("\"No, it is mine,\" said "+a.name+".", "At first "+a.name+" said no.")
	t.say(b.name+" was sad and sat down "+t.spot+".", b.name+" went away to sit "+t.spot+".")
	t.say(a.name+" felt bad and went to find "+b.name+".", "Then "+a.name+" saw that playing alone was no fun.")
	t.say("\"Let us share the "+t.object+",\" said "+a.name+".", a.name+" gave the "+t.thing+" to "+b.name+" and smiled.")
	t.say("They played until dark and ate "+t.food+" together.", a.name+" and "+b.name+" played all day and then ate some "+t.food+".")
}

func (t *tale) broken() {
	a, b, w := t.a, t.b, t.opened
	t.say("One day, when "+w+", the "+t.object+" broke.", "One morning "+w+" and "+a.name+" dropped the "+t.thing+". It broke.")
	t.say("\"Oh no!\" said "+a.name+".", a.name+" began to cry.", a.name+" did not know what to do.")
	t.say("But "+b.name+" the "+b.kind+" was good at fixing things.", "So "+a.name+" went to see "+b.name+", "+article(b.trait)+" "+b.kind+".")
	t.say(b.name+" found an old tool "+t.spot+" and got to work.", "\"I need a tool. It is "+t.spot+",\" said "+b.name+".")
	t.say("Soon the "+t.object+" was as good as new.", "After a while, the "+t.thing+" worked again.")
	t.say(a.name+" made some "+t.food+" to thank "+b.name+".", "\"Thank you, "+b.name+"!\" said "+a.name+", and they shared some "+t.food+".")
}
