package archive

import (
	"container/list"
	"sync"
)

// cache keeps what was used last, up to a number of bytes.
type cache[K comparable, V any] struct {
	max  int
	cost func(V) int

	mu    sync.Mutex
	used  int
	byKey map[K]*list.Element
	order list.List // of *entry, the one used last in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](max int, cost func(V) int) *cache[K, V] {
	return &cache[K, V]{max: max, cost: cost, byKey: make(map[K]*list.Element)}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// put keeps a value; one that is larger than the whole cache is not kept.
func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; ok || c.cost(value) > c.max {
		return
	}
	c.byKey[key] = c.order.PushFront(&entry[K, V]{key, value})
	for c.used += c.cost(value); c.used > c.max; {
		last := c.order.Back()
		old := last.Value.(*entry[K, V])
		c.order.Remove(last)
		delete(c.byKey, old.key)
		c.used -= c.cost(old.value)
	}
}

// bytes returns what is kept.
func (c *cache[K, V]) bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}
