package main

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// The search is hard where many calls overlap: after a broker stood still, dozens are decided at once and answered at
// once. So what the log of facts says of the order is tried first: each decision is put at one moment of its interval.
// An order that is found so is one of the calls within their own times, whoever gave the idea, for the intervals have
// only become smaller; so nothing is believed. Where there is none, the search is made without.

// group names what one fact can be of: all calls with one key, those that were refused a change apart; or a time.
func (o *step) group() string {
	switch {
	case o.kind == lapse:
		return fmt.Sprintf("time of %d", o.number)
	case !o.isOfCall():
		return ""
	case o.call.Action == "reserve":
		return fmt.Sprintf("reservation %d", o.number)
	case o.kind != late && o.call.Status >= 400:
		return ""
	}
	return fmt.Sprintf("key %d", o.key)
}

// isOfCall: whether it decides a call.
func (o *step) isOfCall() bool {
	return o.kind == whole || o.kind == act || o.kind == late
}

// groupOf is the group of a fact; "": of what it is, is not known.
func (p *preparation) groupOf(one record) string {
	number, known := p.byID[one.Reservation]
	switch {
	case one.Action == "reserve":
		if number, known = p.byOrder[one.Order]; known {
			return fmt.Sprintf("reservation %d", number)
		}
	case known && one.Action == "expire":
		return fmt.Sprintf("time of %d", number)
	case known:
		return fmt.Sprintf("key %d", p.keyOf(&call{record: one}, number))
	}
	return ""
}

// inOrder gives the operations with their decisions at the moments that the log tells; false: they do not fit.
func (p *preparation) inOrder() ([]porcupine.Operation, bool) {
	made := append([]porcupine.Operation(nil), p.made...)
	groups := map[string][]int{}
	for i, one := range made {
		if name := one.Input.(*step).group(); name != "" {
			groups[name] = append(groups[name], i)
		}
	}
	latest := p.latest(made, groups)
	lastNs, chosen := int64(math.MinInt64), map[int]bool{}
	for i, one := range p.order {
		members := groups[p.groupOf(one)]
		if len(members) == 0 {
			continue
		}
		atNs := min(one.WallMs*int64(time.Millisecond)-p.offsetNs, latest[i])
		by, atNs := choose(made, members, max(lastNs+1, atNs))
		if atNs <= lastNs {
			return nil, false
		}
		for _, i := range members {
			made[i].Call = max(made[i].Call, atNs+1)
		}
		made[by].Call, made[by].Return = atNs, atNs
		lastNs, chosen[by] = atNs, true
	}
	placed := made[:0]
	for i, one := range made {
		if o := one.Input.(*step); !chosen[i] && o.isOfCall() && (o.call.Key != "" || o.call.Action == "reserve") {
			if o.kind == late {
				continue // the log does not have it
			}
			without := *o
			without.idle, one.Input = true, &without
		}
		if one.Call > one.Return {
			return nil, false
		}
		placed = append(placed, one)
	}
	return placed, true
}

// latest gives for each fact the moment by which it has to be, since a later one says that a reservation's time has come.
// The log says so a little later than it was, with the next decisions.
func (p *preparation) latest(made []porcupine.Operation, groups map[string][]int) []int64 {
	found, boundNs := make([]int64, len(p.order)), int64(never)
	for i := len(p.order) - 1; i >= 0; i-- {
		if p.order[i].Action == "expire" {
			for _, of := range groups[p.groupOf(p.order[i])] {
				boundNs = min(boundNs, made[of].Return)
			}
		}
		found[i] = boundNs - int64(len(p.order)-i)
	}
	return found
}

// choose gives the operation that a fact is of, and the moment within its interval that is next to the wanted one; of
// several calls with one key it is the one that ends first.
func choose(made []porcupine.Operation, members []int, wantedNs int64) (int, int64) {
	best, bestNs := -1, int64(0)
	for _, i := range members {
		atNs := min(max(wantedNs, made[i].Call), made[i].Return)
		off, bestOff := distance(atNs, wantedNs), distance(bestNs, wantedNs)
		if best < 0 || off < bestOff || (off == bestOff && made[i].Return < made[best].Return) {
			best, bestNs = i, atNs
		}
	}
	return best, bestNs
}

func distance(a, b int64) int64 {
	return max(a-b, b-a)
}
