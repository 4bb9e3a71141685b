package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// reserve is what a job may cost, in nano-units: what nearly all jobs of its
// endpoint ran, or its execution timeout until some were measured. 0 without a
// price.
func (s *Server) reserve(view *state.View, e *state.Endpoint, executionMs int64) int64 {
	if e.Doc.Price.GPUSecond == 0 || view.Meta().Feature < command.FeatureAPI {
		return 0
	}
	if ms, ok := s.estimate.quantile(e.Org, e.ID, likely); ok {
		executionMs = min(executionMs, ms)
	}
	return int64(min(e.Doc.Cost(executionMs), protocol.MaxMoney))
}

// tooFewCredits completes the error of a job that the organisation cannot pay.
func tooFewCredits(err *protocol.Error, free, required int64) *protocol.Error {
	return err.With("balance", protocol.Money(free)).With("required", protocol.Money(required))
}

// grantCredits is POST /v2/orgs/{id}/credits.
func (s *Server) grantCredits(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var grant protocol.CreditGrant
	if err := parseObject(body, &grant); err != nil {
		return err
	}
	if grant.Amount == 0 {
		return protocol.Invalid("amount", nil, "Required: what to add to the balance, such as 25 or 0.5; a negative amount takes away")
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := s.grant(ctx, c.args[0], grant.Amount, c.header(protocol.HeaderIdempotencyKey)); err != nil {
		return orgError(err, c.args[0])
	}
	o := s.deps.Store.View().Org(c.args[0])
	if o == nil {
		return orgNotFound(c.args[0])
	}
	return c.json(orgOf(o))
}

// grant proposes one grant, whose id is the caller's key or a new one.
func (s *Server) grant(ctx context.Context, org string, amount protocol.Money, key string) error {
	var id [16]byte
	if key == "" {
		if _, err := rand.Read(id[:]); err != nil {
			return err
		}
	} else {
		sum := sha256.Sum256([]byte(key))
		copy(id[:], sum[:])
	}
	res, err := s.propose(ctx, &command.Command{Op: &command.Command_GrantCredits{
		GrantCredits: &command.GrantCredits{Org: org, Id: id[:], Amount: int64(amount)},
	}})
	if err != nil {
		return err
	}
	return s.deps.Applied(ctx, res.Index)
}
