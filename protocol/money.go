package protocol

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Money is an amount in nano-units (10^-9) of whatever currency the operator
// counts in. Its JSON is a decimal number with at most nine decimals, written
// without rounding.
type Money int64

// moneyUnit is how many nano-units are one unit.
const moneyUnit = 1_000_000_000

// MaxMoney is the largest amount that a document may state: nine million units,
// below which a float64 holds every nano-unit.
const MaxMoney Money = 1 << 53

// String returns the decimal number.
func (m Money) String() string { return string(m.appendJSON(nil)) }

func (m Money) appendJSON(b []byte) []byte {
	n := uint64(m)
	if m < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendUint(b, n/moneyUnit, 10)
	if rest := n % moneyUnit; rest > 0 {
		b = append(b, '.')
		b = append(b, strings.TrimRight(fmt.Sprintf("%09d", rest), "0")...)
	}
	return b
}

// MarshalJSON implements json.Marshaler.
func (m Money) MarshalJSON() ([]byte, error) { return m.appendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler; what is finer than a nano-unit is
// rounded.
func (m *Money) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if v = math.Round(v * moneyUnit); err != nil || !(math.Abs(v) <= float64(MaxMoney)) {
		return fmt.Errorf("cannot parse amount %s: write a number of at most %s, such as 0.0004", clip(string(b)), MaxMoney)
	}
	*m = Money(v)
	return nil
}

// For is what count of something cost for so many milliseconds at this price a
// second, rounded to the nearest nano-unit; the largest amount when that is more
// than one can hold.
func (m Money) For(count int, ms int64) Money {
	if m <= 0 || count <= 0 || ms <= 0 {
		return 0
	}
	hi, each := bits.Mul64(uint64(m), uint64(count))
	if hi > 0 {
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(each, uint64(ms))
	const perSecond = 1000
	if hi >= perSecond {
		return math.MaxInt64
	}
	cost, rest := bits.Div64(hi, lo, perSecond)
	if rest >= perSecond/2 {
		cost++
	}
	return Money(min(cost, math.MaxInt64))
}

// Plus is the sum of two amounts that are not negative; the largest amount when
// it is more than one can hold.
func (m Money) Plus(o Money) Money {
	if sum := m + o; sum >= m {
		return sum
	}
	return math.MaxInt64
}
