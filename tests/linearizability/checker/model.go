package main

// The sequential specification of one SKU: docs/reservations.md, and docs/reservations-api.md for what is answered.
// States are never changed, only copied.

// What a reservation may be; absent: no call has made it yet.
const (
	absent uint8 = iota
	refused
	held
	committed
	fulfilled
	released
	expired
)

var named = [...]string{"absent", "REFUSED", "HELD", "COMMITTED", "FULFILLED", "RELEASED", "EXPIRED"}

// done is a change that was carried out, by its key; the key of the same change again is the same number.
type done struct {
	key   int
	units int64
}

// kept is a change that had no effect, by its key, and how the reservation stood then: what its repeats are told too.
// A reservation keeps 16 of them; here it keeps all.
type kept struct {
	key   int
	state uint8
	open  int64
	asked int64 // units
}

// reservation is how one stands.
type reservation struct {
	state    uint8
	lapses   bool  // whether its time may come within the history
	content  int   // of the request that made it
	quantity int64 // asked for
	first    int64 // reserved at first
	open     int64 // reserved, and not left
	out      int64 // left
	facts    int   // steps so far
	done     []done
	kept     []kept
}

const chunk = 32

// state is of one SKU. sold: all units that reservations take off what is on hand. acted: of calls whose effect was
// placed and whose answer was not, by number. over: nothing that is known comes any more.
type state struct {
	onHand, sold int64
	over         bool
	acted        []int
	chunks       []*[chunk]*reservation
}

var none = &reservation{}

func start(reservations int) *state {
	chunks := make([]*[chunk]*reservation, (reservations+chunk-1)/chunk)
	for i := range chunks {
		chunks[i] = new([chunk]*reservation)
		for j := range chunks[i] {
			chunks[i][j] = none
		}
	}
	return &state{chunks: chunks}
}

func (s *state) of(number int) *reservation {
	return s.chunks[number/chunk][number%chunk]
}

func (s *state) with(number int, now *reservation, sold int64) *state {
	next := *s
	next.sold += sold
	next.chunks = append([]*[chunk]*reservation(nil), s.chunks...)
	changed := *s.chunks[number/chunk]
	changed[number%chunk] = now
	next.chunks[number/chunk] = &changed
	return &next
}

func (s *state) available() int64 {
	return max(0, s.onHand-s.sold)
}

func (s *state) hasActed(number int) bool {
	for _, one := range s.acted {
		if one == number {
			return true
		}
	}
	return false
}

func (s *state) withActed(number int, is bool) *state {
	next := *s
	next.acted = make([]int, 0, len(s.acted)+1)
	for _, one := range s.acted {
		if one < number {
			next.acted = append(next.acted, one)
		}
	}
	if is {
		next.acted = append(next.acted, number)
	}
	for _, one := range s.acted {
		if one > number {
			next.acted = append(next.acted, one)
		}
	}
	return &next
}

func (s *state) equal(other *state) bool {
	if s.onHand != other.onHand || s.sold != other.sold || s.over != other.over || len(s.acted) != len(other.acted) {
		return false
	}
	for i, one := range s.acted {
		if other.acted[i] != one {
			return false
		}
	}
	for i, of := range s.chunks {
		if of == other.chunks[i] {
			continue
		}
		for j, one := range of {
			if !one.equal(other.chunks[i][j]) {
				return false
			}
		}
	}
	return true
}

func (r *reservation) equal(other *reservation) bool {
	if r == other {
		return true
	}
	if r.state != other.state || r.lapses != other.lapses || r.content != other.content || r.first != other.first ||
		r.open != other.open || r.out != other.out || r.facts != other.facts ||
		len(r.done) != len(other.done) || len(r.kept) != len(other.kept) {
		return false
	}
	for i, one := range r.kept {
		if other.kept[i] != one {
			return false
		}
	}
	for i, one := range r.done {
		if other.done[i] != one {
			return false
		}
	}
	return true
}

func (r *reservation) carriedOut(key int) (int64, bool) {
	for _, one := range r.done {
		if one.key == key {
			return one.units, true
		}
	}
	return 0, false
}

func (r *reservation) keptOf(key int) (kept, bool) {
	for _, one := range r.kept {
		if one.key == key {
			return one, true
		}
	}
	return kept{}, false
}

// keeping gives the reservation with a change that has no effect on it; in the order of their keys, for no answer tells
// which was first.
func (r *reservation) keeping(key int, units int64) *reservation {
	next := *r
	next.kept = append(append(make([]kept, 0, len(r.kept)+1), r.kept...), kept{key, r.state, r.open, units})
	for i := len(next.kept) - 1; i > 0 && next.kept[i].key < next.kept[i-1].key; i-- {
		next.kept[i], next.kept[i-1] = next.kept[i-1], next.kept[i]
	}
	return &next
}

// isKnown: whether a change was decided before.
func (r *reservation) isKnown(key int) bool {
	_, carriedOut := r.carriedOut(key)
	_, is := r.keptOf(key)
	return carriedOut || is
}

// after gives what a change makes of a reservation, with the fact that says so and its units; "": it has no effect.
// units 0: all that are open.
func (r *reservation) after(action string, key int, units int64) (*reservation, string, int64) {
	if r.isKnown(key) {
		return r, "", 0
	}
	next, told := *r, ""
	switch action {
	case "commit":
		if r.state == held {
			next.state, next.lapses, told, units = committed, false, "COMMITTED", r.open
		}
	case "extend":
		if r.state == held {
			next.lapses, told, units = false, "EXTENDED", r.open
		}
	case "fulfil", "release":
		if units == 0 {
			units = r.open
		}
		may := r.state == committed || (action == "release" && r.state == held)
		if !may || units <= 0 || units > r.open {
			break
		}
		next.open -= units
		told = "RELEASED"
		if action == "fulfil" {
			next.out += units
			told = "FULFILLED"
		}
		if next.open == 0 {
			next.lapses, next.state = false, released
			if next.out > 0 {
				next.state = fulfilled
			}
		}
	}
	if told == "" {
		return r, "", 0
	}
	next.facts++
	next.done = append(append(make([]done, 0, len(r.done)+1), r.done...), done{key, units})
	for i := len(next.done) - 1; i > 0 && next.done[i].key < next.done[i-1].key; i-- {
		next.done[i], next.done[i-1] = next.done[i-1], next.done[i]
	}
	return &next, told, units
}

// reserve gives what becomes of a request, decided now.
func (s *state) reserve(asked *call, content int) *reservation {
	units := asked.Quantity
	if asked.Partial {
		units = min(units, s.available())
	}
	made := reservation{state: refused, content: content, quantity: asked.Quantity, facts: 1}
	if 0 < units && units <= s.available() {
		made.state, made.lapses, made.first, made.open = held, asked.ExpiresS < longS, units, units
	}
	return &made
}
