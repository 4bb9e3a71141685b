package command

// invalidCredits are commands about credits that must be refused.
func invalidCredits() map[string]func(map[string]*Command) *Command {
	return map[string]func(map[string]*Command) *Command{
		"no credits": func(m map[string]*Command) *Command {
			m["grant_credits"].GetGrantCredits().Amount = 0
			return m["grant_credits"]
		},
		"no grant": func(m map[string]*Command) *Command {
			m["grant_credits"].GetGrantCredits().Id = nil
			return m["grant_credits"]
		},
		"reserve": func(m map[string]*Command) *Command {
			m["submit_reserve"].GetSubmit().Reserve = -1
			return m["submit_reserve"]
		},
	}
}
