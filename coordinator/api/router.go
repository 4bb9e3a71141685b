package api

import "strings"

// router finds the route of a path: one node for each segment, literals before
// the parameter. It is built once and then only read.
type router struct {
	root node
}

type node struct {
	literal map[string]*node
	param   *node
	rest    *node // {x...}
	methods map[string]*route
	allow   string // value of the Allow header
}

// params are the values of a route's {placeholders}, in order. One with dots,
// {path...}, is the last and takes the rest of the path.
type params [2]string

func newRouter(routes []*route) *router {
	r := &router{}
	for _, rt := range routes {
		at := &r.root
		for seg := range strings.SplitSeq(strings.Trim(rt.pattern, "/"), "/") {
			at = at.child(seg)
		}
		if at.methods == nil {
			at.methods = make(map[string]*route)
		}
		if at.methods[rt.method] != nil {
			panic("api: two routes for " + rt.method + " " + rt.pattern)
		}
		at.methods[rt.method] = rt
		if at.allow != "" {
			at.allow += ", "
		}
		at.allow += rt.method
	}
	return r
}

func (n *node) child(seg string) *node {
	if strings.HasSuffix(seg, "...}") {
		if n.rest == nil {
			n.rest = &node{}
		}
		return n.rest
	}
	if strings.HasPrefix(seg, "{") {
		if n.param == nil {
			n.param = &node{}
		}
		return n.param
	}
	if n.literal == nil {
		n.literal = make(map[string]*node)
	}
	if n.literal[seg] == nil {
		n.literal[seg] = &node{}
	}
	return n.literal[seg]
}

// find returns the route for a method and path. Without one, allow names the
// methods that the path has; it is empty when the path is unknown.
func (r *router) find(method string, p *path) (rt *route, args params, allow string) {
	at := r.root.match(p.seg[:p.n], &args, 0)
	if at == nil {
		return nil, args, ""
	}
	return at.methods[method], args, at.allow
}

// match prefers a literal, and goes back to the parameter where the literal
// leads nowhere: /v2/jobs/status/batch does not hide a job named status.
func (n *node) match(segs []string, args *params, used int) *node {
	if len(segs) == 0 {
		if n.methods == nil {
			return nil
		}
		return n
	}
	if next := n.literal[segs[0]]; next != nil {
		if found := next.match(segs[1:], args, used); found != nil {
			return found
		}
	}
	if used == len(args) {
		return nil
	}
	if n.param != nil {
		args[used] = segs[0]
		if found := n.param.match(segs[1:], args, used+1); found != nil {
			return found
		}
	}
	if n.rest != nil {
		args[used] = strings.Join(segs, "/")
	}
	return n.rest
}
