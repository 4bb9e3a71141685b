package protocol

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestMoneyIsADecimalNumber(t *testing.T) {
	for text, want := range map[string]Money{
		"0": 0, "0.0004": 400_000, "4e-4": 400_000, "1": 1_000_000_000, "5.67": 5_670_000_000, "0.000000001": 1,
		"0.0000000004": 0, "-2.5": -2_500_000_000, "9007199.254740992": MaxMoney, "1e-07": 100,
	} {
		var m Money
		if err := json.Unmarshal([]byte(text), &m); err != nil || m != want {
			t.Errorf("%s is %d (%v), want %d", text, m, err, want)
		}
	}
	for _, text := range []string{`"1"`, `true`, `{}`, `1e300`, `9007200`, `1e999999`} {
		var m Money
		if err := json.Unmarshal([]byte(text), &m); err == nil {
			t.Errorf("%s was read as %s", text, m)
		}
	}
	for m, want := range map[Money]string{0: "0", 1: "0.000000001", 400_000: "0.0004", 2_470_000_000: "2.47", -1_500_000_000: "-1.5", math.MinInt64: "-9223372036.854775808"} {
		if got := m.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(m), got, want)
		}
	}
}

func TestMoneyKeepsItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.Int64Range(-int64(MaxMoney), int64(MaxMoney)).Draw(t, "amount"))
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Money
		if err := json.Unmarshal(b, &back); err != nil || back != m {
			t.Fatalf("%d became %s and %d (%v)", m, b, back, err)
		}
	})
}

func TestCostIsPriceTimesTime(t *testing.T) {
	for _, c := range []struct {
		price Money
		count int
		ms    int64
		want  Money
	}{
		{400_000, 1, 287_500, 115_000_000}, {400_000, 2, 287_500, 230_000_000}, {1, 1, 499, 0}, {1, 1, 500, 1}, {3, 1, 1, 0},
		{0, 1, 1000, 0}, {400_000, 1, 0, 0}, {400_000, 0, 1000, 0}, {-5, 1, 1000, 0},
		{MaxMoney, 1, 1000, MaxMoney}, {MaxMoney, 1024, MaxPolicyTime.Milliseconds(), math.MaxInt64}, {math.MaxInt64, 1 << 40, 1, math.MaxInt64},
	} {
		if got := c.price.For(c.count, c.ms); got != c.want {
			t.Errorf("%d x %d x %d ms = %d, want %d", c.price, c.count, c.ms, got, c.want)
		}
	}
	if got := Money(math.MaxInt64).Plus(1); got != math.MaxInt64 {
		t.Errorf("the largest amount and one is %d", got)
	}
	if got := Money(2).Plus(3); got != 5 {
		t.Errorf("2 and 3 is %d", got)
	}
}
