package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"
)

// record is a line of a history; tests/linearizability/history.py says what each field means.
type record struct {
	Kind        string `json:"kind"`
	Call        int    `json:"call"`
	Client      int    `json:"client"`
	Sku         string `json:"sku"`
	Action      string `json:"action"`
	Key         string `json:"key"`
	Order       string `json:"order"`
	Reservation string `json:"reservation"`
	Quantity    int64  `json:"quantity"`
	Partial     bool   `json:"partial"`
	ExpiresS    int64  `json:"expires_s"`
	Called      int64  `json:"called"`
	Returned    int64  `json:"returned"`
	Status      int    `json:"status"`
	Told        *told  `json:"told"`
	Units       int64  `json:"units"`
	At          int64  `json:"at"`
	WallMs      int64  `json:"wall_ms"`
}

// told is the body of an answer: a reservation in full or in short, or a refusal.
type told struct {
	Code          string     `json:"code"`
	ReservationID string     `json:"reservation_id"`
	Reserved      int64      `json:"reserved_quantity"`
	State         string     `json:"state"`
	Open          int64      `json:"open"`
	ExpiresAt     *time.Time `json:"expires_at"`
	CreatedAt     time.Time  `json:"created_at"`
	Lines         []struct {
		Left      int64 `json:"left"`
		Quantity  int64 `json:"quantity"`
		Reserved  int64 `json:"reserved_quantity"`
		Open      int64 `json:"open_quantity"`
		Fulfilled int64 `json:"fulfilled_quantity"`
	} `json:"lines"`
	History []fact `json:"history"`
}

// left is what could be had of what was refused for want of it.
func (t *told) left() (int64, bool) {
	if t.Code != "SOLD_OUT" || len(t.Lines) != 1 {
		return 0, false
	}
	return t.Lines[0].Left, true
}

// fact is a step of a reservation, as its history tells it.
type fact struct {
	Fact  string    `json:"fact"`
	At    time.Time `json:"at"`
	Units int64     `json:"units"`
}

// call is what a client asked, with all attempts at it: the same request with the same key until an answer came.
type call struct {
	record
	number   int   // place among the calls of the SKU
	first    int64 // when it was first sent
	last     int64 // when the attempt was sent that was answered
	answered bool
	doubtful bool // whether some attempt has no known outcome
}

// window is all that happened to one SKU, from its first count to the last look at its reservations.
type window struct {
	sku      string
	offsetNs int64 // of UTC from the history's clock, when it began
	calls    []*call
	stocks   []record
	looks    []record
	order    []record // of the decisions, as the log of facts has it
}

// read gives the windows of a history, in the order of their names.
func read(path string) ([]*window, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	windows, calls := map[string]*window{}, map[int]*call{}
	var offsetNs int64
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for number := 1; lines.Scan(); number++ {
		var one record
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("line %d cannot be read: %w", number, err)
		}
		if one.Kind == "clock" {
			offsetNs = one.WallMs*int64(time.Millisecond) - one.At
		}
		if one.Sku == "" {
			continue
		}
		of := windows[one.Sku]
		if of == nil {
			of = &window{sku: one.Sku, offsetNs: offsetNs}
			windows[one.Sku] = of
		}
		switch one.Kind {
		case "attempt":
			of.add(one, calls)
		case "stock":
			of.stocks = append(of.stocks, one)
		case "look":
			of.looks = append(of.looks, one)
		case "decided":
			of.order = append(of.order, one)
		}
	}
	sorted := make([]*window, 0, len(windows))
	for _, of := range windows {
		sorted = append(sorted, of)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].sku < sorted[j].sku })
	return sorted, lines.Err()
}

// add takes an attempt; those of a call come in their order, and only the last one may be answered.
func (w *window) add(one record, calls map[int]*call) {
	known := calls[one.Call]
	if known == nil {
		known = &call{record: one, number: len(w.calls), first: one.Called}
		calls[one.Call] = known
		w.calls = append(w.calls, known)
	}
	if one.Status == 0 {
		known.doubtful = true
		return
	}
	known.answered = true
	known.last, known.Returned, known.Status, known.Told = one.Called, one.Returned, one.Status, one.Told
}
