package engine

import "math"

const (
	// maxSize bounds every hyperparameter; the largest llama models stay below it,
	// and the product of two of them stays below 2^40.
	maxSize = 1 << 20
	// maxHead bounds the length of one attention head; llama models use 64 to 256.
	maxHead = 512
	// MaxContext is the most positions used of a model, whatever it announces: it
	// bounds the attention cache, and a generation is O(context squared).
	MaxContext = 4096
	// maxLayers bounds the blocks; llama 3.1 405B has 126.
	maxLayers = 1024
	// maxCache bounds the attention cache of one generation in bytes; a model with
	// a larger one gets a shorter context.
	maxCache = 1 << 30
)

// Config is the shape of a llama network.
type Config struct {
	Dim     int // length of a token's vector
	Layers  int
	Heads   int
	KVHeads int // heads of keys and values; divides Heads
	FFN     int // inner length of the feed-forward layer
	Vocab   int
	Context int // positions, prompt and text together
	Epsilon float32
	Base    float64 // of the rotary angles
}

// Head is the length of one attention head.
func (c Config) Head() int { return c.Dim / c.Heads }

// KV is the length of a position's keys, and of its values.
func (c Config) KV() int { return c.KVHeads * c.Head() }

const (
	defaultEpsilon = 1e-5
	defaultBase    = 10000
)

// config reads and checks the hyperparameters (keys of ggml's docs/gguf.md).
func (f *File) config(vocab int) (Config, error) {
	arch, _, err := f.text("general.architecture")
	if err != nil {
		return Config{}, err
	}
	if arch != "llama" {
		return Config{}, refuse(ReasonArchitecture, "the file has the architecture %q", clip(arch))
	}
	c := Config{Vocab: vocab}
	for _, field := range []struct {
		into *int
		key  string
		most int
	}{
		{&c.Dim, "llama.embedding_length", maxSize},
		{&c.Layers, "llama.block_count", maxLayers},
		{&c.Heads, "llama.attention.head_count", maxSize},
		{&c.FFN, "llama.feed_forward_length", maxSize},
		{&c.Context, "llama.context_length", math.MaxInt32},
	} {
		if *field.into, err = f.count(field.key, 0, field.most); err != nil {
			return Config{}, err
		}
	}
	if c.KVHeads, err = f.count("llama.attention.head_count_kv", c.Heads, maxSize); err != nil {
		return Config{}, err
	}
	epsilon, err := f.number("llama.attention.layer_norm_rms_epsilon", defaultEpsilon)
	if err != nil {
		return Config{}, err
	}
	c.Epsilon = float32(epsilon)
	if c.Base, err = f.number("llama.rope.freq_base", defaultBase); err != nil {
		return Config{}, err
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	position := 2 * 4 * c.KV() * c.Layers // bytes of keys and values
	c.Context = min(c.Context, MaxContext, max(maxCache/position, 1))
	return c, f.refuseVariants(c)
}

func (c Config) check() error {
	switch {
	case c.Dim%c.Heads != 0 || c.Head()%2 != 0 || c.Head() > maxHead:
		return refuse(ReasonShape, "vectors of %d numbers do not divide into %d heads of an even length up to %d", c.Dim, c.Heads, maxHead)
	case c.Heads%c.KVHeads != 0:
		return refuse(ReasonShape, "%d heads do not share %d heads of keys evenly", c.Heads, c.KVHeads)
	}
	return nil
}

// refuseVariants refuses what would load and then tell nonsense: the same
// tensors under other rules.
func (f *File) refuseVariants(c Config) error {
	for _, key := range []string{"llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"} {
		if n, err := f.count(key, c.Head(), math.MaxInt32); err != nil {
			return err
		} else if n != c.Head() {
			return refuse(ReasonArchitecture, "%s is %d, and a head has %d", key, n, c.Head())
		}
	}
	if kind, found, err := f.text("llama.rope.scaling.type"); err != nil {
		return err
	} else if found && kind != "none" {
		return refuse(ReasonArchitecture, "the rotary angles are scaled (%q)", clip(kind))
	}
	if factor, err := f.number("llama.rope.scale_linear", 1); err != nil {
		return err
	} else if factor != 1 {
		return refuse(ReasonArchitecture, "the rotary angles are scaled by %g", factor)
	}
	return nil
}

// clip shortens text of a file for a message.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
