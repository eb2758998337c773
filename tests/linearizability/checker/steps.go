package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// kind is what an operation is to the checker. A call whose reservation is touched by nobody else meanwhile is `whole`.
// Any other one is two: `act`, its decision, and `see`, the look at the reservation that its answer tells, which is
// made after the decision and before the answer.
type kind int

const (
	whole  kind = iota
	act         // the decision of a call; its answer is seen later, or was never heard
	see         // what the answer of a call tells
	late        // an attempt whose outcome is not known: it is decided at any time from then on, or never
	lapse       // the time of a reservation comes
	arrive      // units come into stock, or go
	look        // the last look at a reservation
	ending      // all that has an outcome has had it
)

// step is an operation of the checker. number: of its reservation; key: of its change.
type step struct {
	kind    kind
	call    *call
	number  int
	key     int
	content int
	story   []fact // the reservation's whole history as it was told at last; nil: it was not
	left    int64  // what could be had when it was refused, as it was told; unknown: it was not
	units   int64
	told    *told
	idle    bool // whether it has no effect, as the log says
}

// take is the model's step: whether the operation may come next, and the state after it.
func (o *step) take(s *state) (bool, *state) {
	switch o.kind {
	case whole:
		if may, next := o.decide(s); may {
			return o.sees(next.of(o.number)), next
		}
	case act:
		may, next := o.decide(s)
		if may && o.call.answered {
			next = next.withActed(o.call.number, true)
		}
		return may, next
	case see:
		return s.hasActed(o.call.number) && o.sees(s.of(o.number)), s.withActed(o.call.number, false)
	case late:
		if s.over {
			return true, s
		}
		if s.of(o.number).isKnown(o.key) {
			return false, s // it is decided, and comes to nothing
		}
		next, _ := o.change(s)
		return next != s, next
	case lapse:
		return o.lapse(s)
	case arrive:
		next := *s
		next.onHand += o.units
		return true, &next
	case look:
		now := s.of(o.number)
		return stands(now, o.told) && now.facts == len(o.told.History), s
	case ending:
		next := *s
		next.over = true
		return true, &next
	}
	return false, s
}

// decide is what the SKU's writer does with a call. It is false where the answer, or the story, contradicts that at once.
func (o *step) decide(s *state) (bool, *state) {
	if o.call.Action == "reserve" {
		return o.reserve(s)
	}
	next, effect := o.change(s)
	if effect {
		return !o.idle && o.call.Status < 400, next
	}
	return o.fits(s) && o.mayBeNothing(next.of(o.number)), next
}

// mayBeNothing: whether a call may have had no effect on a reservation as it is, by what was answered.
func (o *step) mayBeNothing(r *reservation) bool {
	if _, already := r.carriedOut(o.key); already {
		return true
	}
	first, _ := r.keptOf(o.key)
	return (o.call.Status == 200) == (first.asked == o.call.Quantity && o.hadNothingToDo(first.state))
}

// hadNothingToDo: whether the call succeeds without an effect in a state.
func (o *step) hadNothingToDo(state uint8) bool {
	return (o.call.Action == "commit" && (state == committed || state == fulfilled)) ||
		(o.call.Action == "release" && state == released)
}

func (o *step) reserve(s *state) (bool, *state) {
	now := s.of(o.number)
	next := s
	if now.state == absent {
		if o.idle {
			return false, s
		}
		now = s.reserve(o.call, o.content)
		fact := "HELD"
		if now.state == refused {
			fact = "REFUSED"
		}
		if !o.tells(0, fact, now.first) || (now.state == refused && o.left != unknown && o.left != s.available()) {
			return false, s
		}
		next = s.with(o.number, now, now.open)
	}
	return !o.call.answered || o.reserved(now), next
}

// change carries a change out, if it can be; false: it has no effect, which is kept.
func (o *step) change(s *state) (*state, bool) {
	before := s.of(o.number)
	now, fact, units := before.after(o.call.Action, o.key, o.call.Quantity)
	if fact == "" {
		if before.state == absent || before.isKnown(o.key) {
			return s, false
		}
		return s.with(o.number, before.keeping(o.key, o.call.Quantity), 0), false
	}
	if !o.tells(before.facts, fact, units) {
		return s, false
	}
	var back int64
	if fact == "RELEASED" {
		back = units
	}
	return s.with(o.number, now, -back), true
}

// fits: whether a change without effect is one by the rules, and not for the story's sake alone.
func (o *step) fits(s *state) bool {
	_, fact, _ := s.of(o.number).after(o.call.Action, o.key, o.call.Quantity)
	return fact == ""
}

func (o *step) lapse(s *state) (bool, *state) {
	now := s.of(o.number)
	if s.over {
		return true, s
	}
	if now.state == absent {
		return false, s // its time is counted from its beginning
	}
	if now.state != held || !now.lapses {
		return true, s
	}
	if !o.tells(now.facts, "EXPIRED", now.open) {
		return false, s
	}
	next := *now
	next.state, next.open, next.lapses, next.facts = expired, 0, false, now.facts+1
	return true, s.with(o.number, &next, -now.open)
}

// tells: whether the story has this step at that place.
func (o *step) tells(place int, name string, units int64) bool {
	if o.story == nil {
		return true
	}
	return place < len(o.story) && o.story[place].Fact == name && o.story[place].Units == units
}

// reserved: whether an answer to a call that reserves tells what was decided at first; that never changes.
func (o *step) reserved(r *reservation) bool {
	said := o.call.Told
	switch {
	case r.content != o.content:
		return o.call.Status == 409 && said.Code == "IDEMPOTENCY_CONFLICT"
	case r.state == refused:
		left, known := said.left()
		return o.call.Status == 409 && known && left == o.left
	case o.call.Status != 201:
		return false
	case said.State == "":
		return said.Reserved == r.first
	}
	return len(said.Lines) == 1 && said.Lines[0].Reserved == r.first && said.Lines[0].Quantity == r.quantity
}

// sees: whether an answer tells the reservation as it stands, or as it stood when the call was refused.
func (o *step) sees(r *reservation) bool {
	said := o.call.Told
	if o.call.Action == "reserve" {
		return o.reserved(r) && (o.call.Status != 201 || stands(r, said))
	}
	if r.state == absent {
		return o.call.Status == 404 && said.Code == "UNKNOWN_RESERVATION"
	}
	asked := o.call.Quantity
	units, carriedOut := r.carriedOut(o.key)
	first, _ := r.keptOf(o.key)
	switch {
	case (carriedOut && asked != 0 && asked != units) || (!carriedOut && asked != first.asked):
		return o.call.Status == 409 && said.Code == "IDEMPOTENCY_CONFLICT"
	case carriedOut || o.hadNothingToDo(first.state):
		return o.call.Status == 200 && stands(r, said)
	case first.state == expired:
		return o.call.Status == 409 && said.Code == "EXPIRED" && said.State == "EXPIRED"
	}
	return o.call.Status == 409 && said.Code == "INVALID_STATE" && said.State == named[first.state] && said.Open == first.open
}

// stands: whether what is told of a reservation is what it is. The short answer tells only whether it may lapse.
func stands(r *reservation, said *told) bool {
	if (said.ExpiresAt != nil) != (r.state == held) {
		return false
	}
	if said.State == "" {
		return true
	}
	if said.State != named[r.state] || len(said.Lines) != 1 {
		return false
	}
	line := said.Lines[0]
	return line.Open == r.open && line.Fulfilled == r.out && line.Reserved == r.first && line.Quantity == r.quantity
}

func (o *step) String() string {
	switch o.kind {
	case arrive:
		return fmt.Sprintf("%+d units in stock", o.units)
	case lapse:
		return fmt.Sprintf("the time of #%d comes", o.number)
	case look:
		return fmt.Sprintf("last look at #%d: %s", o.number, o.told)
	case ending:
		return "the end"
	}
	what := [...]string{"", " (decision)", " (answer)", " (late)"}[o.kind]
	asked := fmt.Sprintf("call %d%s: %s %d of #%d", o.call.Call, what, o.call.Action, o.call.Quantity, o.number)
	if !o.call.answered || o.kind == late {
		return asked + ", outcome unknown"
	}
	return fmt.Sprintf("%s: %d %s", asked, o.call.Status, o.call.Told)
}

func (t *told) String() string {
	text := t.Code + t.State
	for _, line := range t.Lines {
		text += fmt.Sprintf(" reserved %d open %d fulfilled %d left %d", line.Reserved, line.Open, line.Fulfilled, line.Left)
	}
	if len(t.Lines) == 0 {
		text += fmt.Sprintf(" reserved %d open %d", t.Reserved, t.Open)
	}
	return text
}

// model is Porcupine's, of a SKU with so many reservations.
func model(reservations int) porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return start(reservations) },
		Step: func(s, input, _ interface{}) (bool, interface{}) {
			may, next := input.(*step).take(s.(*state))
			return may, next
		},
		Equal:             func(a, b interface{}) bool { return a.(*state).equal(b.(*state)) },
		DescribeOperation: func(input, _ interface{}) string { return input.(*step).String() },
		DescribeState: func(s interface{}) string {
			now := s.(*state)
			return fmt.Sprintf("on hand %d, taken %d", now.onHand, now.sold)
		},
	}
}
