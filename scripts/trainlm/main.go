// Command trainlm makes the story model of the built-in runtime from nothing: it
// writes the text, learns a vocabulary, trains a llama network and writes a GGUF
// file with a model card. See DESIGN.md.
//
//	GOEXPERIMENT=simd go run ./scripts/trainlm -out tiny-story.gguf
//	go run ./scripts/trainlm -eval tiny-story.gguf
//	go run ./scripts/trainlm -expand tiny-story.gguf -out tiny-story-f32.gguf
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"

	"windlass/inference/builtin/engine"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, out, talk io.Writer) error {
	p := defaultPlan()
	flags := flag.NewFlagSet("trainlm", flag.ContinueOnError)
	flags.SetOutput(talk)
	flags.IntVar(&p.steps, "steps", p.steps, "training steps")
	flags.IntVar(&p.threads, "threads", p.threads, "processors to use; another number gives another model of the same quality")
	flags.Int64Var(&p.seed, "seed", p.seed, "of text and weights")
	file := flags.String("out", "tiny-story.gguf", "the file to write; its card goes beside it")
	dtype := flags.String("dtype", "q8_0", "tensor type: f32, f16 or q8_0")
	eval := flags.String("eval", "", "measure this model file instead of training")
	from := flags.String("expand", "", "write this model file with F32 tensors to -out instead of training")
	show := flags.Int("show", 0, "print so many training stories instead of training")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *eval != "":
		return showQuality(*eval, out)
	case *from != "":
		return expand(*from, *file)
	case *show > 0:
		r, lex := rand.New(rand.NewSource(p.seed)), newLexicon()
		for range *show {
			_, _ = fmt.Fprintln(out, lex.story(r))
		}
		return nil
	}
	if p.steps < 1 || p.threads < 1 {
		return errors.New("-steps and -threads must be at least 1")
	}
	return trainInto(p, *file, *dtype, talk)
}

func showQuality(path string, out io.Writer) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot evaluate model: %w", err)
	}
	m, err := engine.Load(data)
	if err != nil {
		return err
	}
	q, err := evaluate(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, q)
	return err
}

func trainInto(p plan, path, dtype string, talk io.Writer) error {
	kind, err := parseType(dtype)
	if err != nil {
		return err
	}
	t, err := train(p, talk)
	if err != nil {
		return err
	}
	data, err := t.encode(kind)
	if err != nil {
		return err
	}
	m, err := engine.Load(data)
	if err != nil {
		return fmt.Errorf("cannot load what was trained: %w", err)
	}
	q, err := evaluate(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("cannot write model: %w", err)
	}
	name := strings.TrimSuffix(filepath.Base(path), ".gguf")
	card := t.card(name, strings.ToUpper(dtype), data, q)
	if err := os.WriteFile(strings.TrimSuffix(path, ".gguf")+".md", []byte(card), 0o644); err != nil {
		return fmt.Errorf("cannot write model card: %w", err)
	}
	return nil
}
