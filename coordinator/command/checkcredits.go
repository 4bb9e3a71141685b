package command

import (
	"cmp"
	"errors"

	"windlass/protocol"
)

func checkReserve(amount int64) error {
	if amount < 0 || protocol.Money(amount) > protocol.MaxMoney {
		return errors.New("reserve is no amount of money")
	}
	return nil
}

func checkGrant(g *GrantCredits) error {
	if a := protocol.Money(g.GetAmount()); a == 0 || a > protocol.MaxMoney || a < -protocol.MaxMoney {
		return errors.New("amount is no amount of money")
	}
	return cmp.Or(checkNames("organisation", g.GetOrg()), checkIDs("grant", g.GetId()))
}
