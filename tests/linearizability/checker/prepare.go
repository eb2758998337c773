package main

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	longS   = 3600                         // a reservation that is held for so long does not lapse within a history
	slackNs = int64(25 * time.Millisecond) // between the clock of the workers and the history's
	unknown = -1
	never   = math.MaxInt64 / 2 // of an attempt that may still be decided after the end
)

// facts are what a reservation's history calls the changes.
var facts = map[string]string{"commit": "COMMITTED", "extend": "EXTENDED", "fulfil": "FULFILLED", "release": "RELEASED"}

// interval is when something happened, at some moment.
type interval struct{ from, to int64 }

func (i interval) meets(other interval) bool {
	return i.from <= other.to && other.from <= i.to
}

// touch is what may have changed a reservation; by is nil for time.
type touch struct {
	interval
	by *call
}

// plan is when a call was decided, and when an attempt of it may be decided that nothing was heard of; nil for never.
type plan struct {
	call    *call
	number  int
	decided *interval
	late    *interval
}

// preparation makes operations of a window.
type preparation struct {
	*window
	numbers  map[string]int // of a reservation, by what its calls have in common: the key, or there being one call
	byID     map[string]int
	byOrder  map[string]int
	ids      map[int]string
	lefts    map[int]int64   // what could be had, of those that were refused and told so
	seen     map[int]*record // the last look, by reservation
	contents map[string]int
	keys     map[string]int
	repeated map[int]bool // whether several calls were made with the key of a change
	touches  map[int][]touch
	made     []porcupine.Operation
	endNs    int64
}

// prepare makes the operations of a window; an error is a violation by itself.
func prepare(of *window) (*preparation, error) {
	p := &preparation{
		window: of, numbers: map[string]int{}, byID: map[string]int{}, byOrder: map[string]int{},
		ids: map[int]string{}, lefts: map[int]int64{}, seen: map[int]*record{}, contents: map[string]int{}, keys: map[string]int{},
		repeated: map[int]bool{}, touches: map[int][]touch{},
	}
	if err := p.name(); err != nil {
		return nil, err
	}
	p.findRepeated()
	if err := p.putLapses(); err != nil {
		return nil, err
	}
	plans := make([]plan, 0, len(p.calls))
	for _, one := range p.calls {
		planned, err := p.planned(one)
		if err != nil {
			return nil, err
		}
		plans = append(plans, planned)
		if planned.decided != nil {
			under := *planned.decided
			under.to = max(under.to, one.Returned)
			p.touches[planned.number] = append(p.touches[planned.number], touch{under, one})
		}
		if planned.late != nil {
			p.touches[planned.number] = append(p.touches[planned.number], touch{*planned.late, one})
		}
	}
	for _, one := range plans {
		p.putCall(one)
	}
	for _, one := range p.stocks {
		p.put(&step{kind: arrive, units: one.Units}, interval{one.Called, one.Returned})
	}
	for number, one := range p.seen {
		if one.Told != nil {
			p.put(&step{kind: look, number: number, told: one.Told}, interval{one.Called, one.Returned})
		}
	}
	p.put(&step{kind: ending}, interval{p.endNs + 1, p.endNs + 1})
	return p, nil
}

// name numbers the reservations, by what was asked and by what was answered.
func (p *preparation) name() error {
	for _, one := range p.calls {
		if one.Action != "reserve" {
			continue
		}
		common := "key " + one.Key
		if one.Key == "" {
			common = fmt.Sprintf("call %d", one.Call)
		}
		if _, known := p.numbers[common]; !known {
			p.numbers[common] = len(p.numbers)
		}
		p.byOrder[one.Order] = p.numbers[common]
		if one.answered {
			if err := p.learn(p.numbers[common], one); err != nil {
				return err
			}
		}
	}
	for i := range p.looks {
		one := &p.looks[i]
		number, known := p.byOrder[one.Order]
		if !known {
			return fmt.Errorf("%s is of order %s, for which nobody asked", one.Reservation, one.Order)
		}
		p.seen[number] = one
		if one.Told != nil {
			if err := p.identify(number, one.Reservation); err != nil {
				return err
			}
		}
	}
	return nil
}

// findRepeated looks for keys of changes with which there are several calls.
func (p *preparation) findRepeated() {
	asked := map[int]bool{}
	for _, one := range p.calls {
		if number, known := p.byID[one.Reservation]; known && one.Action != "reserve" {
			key := p.keyOf(one, number)
			p.repeated[key] = asked[key]
			asked[key] = true
		}
	}
}

// learn takes what an answer to a call that reserves tells of what was decided, which no other may contradict.
func (p *preparation) learn(number int, one *call) error {
	if one.Status == 201 {
		return p.identify(number, one.Told.ReservationID)
	}
	if left, known := one.Told.left(); known {
		if before, is := p.lefts[number]; is && before != left {
			return fmt.Errorf("call %d, a repeat, was told that %d are left, and %d before", one.Call, left, before)
		}
		p.lefts[number] = left
	}
	return nil
}

func (p *preparation) identify(number int, id string) error {
	if known, is := p.ids[number]; is && known != id {
		return fmt.Errorf("one call has made two reservations, %s and %s", known, id)
	}
	if known, is := p.byID[id]; is && known != number {
		return fmt.Errorf("two calls were given one reservation, %s", id)
	}
	p.ids[number], p.byID[id] = id, number
	return nil
}

// story is a reservation's whole history, as it was told at last; nil: it was not.
func (p *preparation) story(number int) []fact {
	if seen := p.seen[number]; seen != nil && seen.Told != nil {
		return seen.Told.History
	}
	return nil
}

// putLapses lets the time come of those reservations that are held for a short while only.
func (p *preparation) putLapses() error {
	done := map[int]bool{}
	for _, one := range p.calls {
		number := p.byOrder[one.Order]
		if one.Action != "reserve" || one.ExpiresS >= longS || p.ids[number] == "" || done[number] {
			continue
		}
		done[number] = true
		seen, told := p.seen[number], one.Told
		if seen != nil && seen.Told != nil {
			told = seen.Told
		}
		if told == nil || told.CreatedAt.IsZero() {
			return fmt.Errorf("it is not known when %s lapses", p.ids[number])
		}
		atNs := told.CreatedAt.Add(time.Duration(one.ExpiresS)*time.Second).UnixNano() - p.offsetNs
		at := interval{atNs - slackNs, atNs + slackNs}
		if seen != nil && at.to >= seen.Called {
			at.to = never // nobody has looked since
		}
		p.touches[number] = append(p.touches[number], touch{at, nil})
		p.put(&step{kind: lapse, number: number, story: p.story(number)}, at)
	}
	return nil
}

// planned says when a call was decided: by any of its attempts, for what the first one to come was told the others are told
// too, also if it was refused. A call that was never answered was decided if its reservation is there.
func (p *preparation) planned(one *call) (plan, error) {
	if one.Action == "reserve" {
		return p.plannedReserve(one, p.byOrder[one.Order])
	}
	number, known := p.byID[one.Reservation]
	if !known {
		return plan{}, fmt.Errorf("call %d is about %s, which no call was told", one.Call, one.Reservation)
	}
	if one.Action == "extend" && one.ExpiresS < longS {
		return plan{}, fmt.Errorf("call %d extends by %d s: times that come after an extension are not modelled", one.Call, one.ExpiresS)
	}
	planned := plan{one, number, nil, p.lateOf(one, number)}
	if one.answered {
		planned.decided = &interval{one.first, one.Returned}
	}
	return planned, nil
}

// plannedReserve: as planned. When it was decided the reservation tells as well, so a call that was in doubt for long, or
// for ever, has its place all the same.
func (p *preparation) plannedReserve(one *call, number int) (plan, error) {
	seen := p.seen[number]
	decided := &interval{one.first, never}
	if one.answered {
		decided.to = one.Returned
	}
	if !one.answered && seen != nil && (seen.Told == nil || seen.Told.Lines[0].Quantity != one.Quantity) {
		return plan{one, number, nil, nil}, nil // nothing came of it, or the key was used before for something else
	}
	if seen == nil || seen.Told == nil {
		return plan{one, number, decided, nil}, nil
	}
	createdNs := seen.Told.CreatedAt.UnixNano() - p.offsetNs
	if createdNs > decided.to+slackNs {
		return plan{}, fmt.Errorf("call %d was answered before %s was decided", one.Call, seen.Reservation)
	}
	if createdNs >= one.first-slackNs { // otherwise a call before has made it, of which this is a repeat
		decided.to = min(decided.to, createdNs+slackNs)
	}
	return plan{one, number, decided, nil}, nil
}

// lateOf says when an attempt at a change may have been decided of which nothing is known, though its call ended. Where
// another attempt was answered, it has no effect any more. It was carried out only if the story has such a step since; that
// it was refused matters only to a repeat, which is told so.
func (p *preparation) lateOf(one *call, number int) *interval {
	if !one.doubtful || one.answered {
		return nil
	}
	if p.repeated[p.keyOf(one, number)] {
		return &interval{one.first, never}
	}
	story := p.story(number)
	if story == nil {
		return &interval{one.first, never}
	}
	for _, each := range story {
		atNs := each.At.UnixNano() - p.offsetNs
		if each.Fact == facts[one.Action] && atNs >= one.first-slackNs {
			return &interval{max(one.first, atNs-slackNs), never}
		}
	}
	return nil
}

// putCall makes the operations of a call.
func (p *preparation) putCall(of plan) {
	one := of.call
	made := func(as kind) *step {
		left, known := p.lefts[of.number]
		if !known {
			left = unknown
		}
		return &step{
			kind: as, call: one, number: of.number, key: p.keyOf(one, of.number), content: p.contentOf(one),
			story: p.story(of.number), left: left,
		}
	}
	if of.late != nil {
		p.put(made(late), *of.late)
	}
	switch {
	case of.decided == nil:
	case !one.answered:
		p.put(made(act), *of.decided)
	case p.isShared(of):
		p.put(made(act), *of.decided)
		p.put(made(see), interval{one.last, one.Returned})
	default:
		p.put(made(whole), *of.decided)
	}
}

// isShared: whether something else may have touched the reservation while the call was under way.
func (p *preparation) isShared(of plan) bool {
	under := interval{of.decided.from, of.call.Returned}
	for _, one := range p.touches[of.number] {
		if (one.by != of.call || of.late != nil) && one.meets(under) {
			return true
		}
	}
	return false
}

func (p *preparation) put(o *step, at interval) {
	client := 0
	if o.call != nil {
		client = o.call.Client
	}
	p.made = append(p.made, porcupine.Operation{ClientId: client, Input: o, Call: at.from, Return: at.to})
	if at.to < never {
		p.endNs = max(p.endNs, at.to)
	}
}

// keyOf numbers what a change is known by: the reservation, the action and the key.
func (p *preparation) keyOf(one *call, number int) int {
	name := fmt.Sprintf("%d %s %s", number, one.Action, one.Key)
	if one.Key == "" {
		name = fmt.Sprintf("call %d", one.Call)
	}
	return numbered(p.keys, name)
}

// contentOf numbers what a request says.
func (p *preparation) contentOf(one *call) int {
	return numbered(p.contents, fmt.Sprintf("%d %t %d %s", one.Quantity, one.Partial, one.ExpiresS, one.Order))
}

func numbered(names map[string]int, name string) int {
	number, known := names[name]
	if !known {
		number = len(names)
		names[name] = number
	}
	return number
}
