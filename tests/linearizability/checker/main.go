// Command checker reads a history of calls on reservations and says of each SKU's whether it is linearizable: whether its
// calls can be put into one order, each within the time that it took, in which the sequential specification (model.go)
// gives every answer that was given. The search is Porcupine's. It prints a JSON object a SKU.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

const shown = 8 // operations that are named where a history is refused

type verdict struct {
	Sku        string   `json:"sku"`
	Calls      int      `json:"calls"`
	Operations int      `json:"operations"`
	Doubtful   int      `json:"doubtful"`
	Result     string   `json:"result"`   // Ok, Illegal, or Unknown: not finished in time
	Searched   bool     `json:"searched"` // whether the log's order was of no use
	Seconds    float64  `json:"seconds"`
	Why        []string `json:"why"`
}

func main() {
	timeout := flag.Duration("timeout", 2*time.Minute, "for one SKU")
	drawings := flag.String("drawings", "", "folder for a drawing of each history that is refused")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "name one history")
		os.Exit(2)
	}
	windows, err := read(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	verdicts := make([]verdict, len(windows))
	var waiting sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, one := range windows {
		waiting.Add(1)
		go func(place int, one *window) {
			defer waiting.Done()
			places <- struct{}{}
			verdicts[place] = check(one, *timeout, *drawings)
			<-places
		}(i, one)
	}
	waiting.Wait()
	out := json.NewEncoder(os.Stdout)
	for _, one := range verdicts {
		if err := out.Encode(one); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
}

func check(of *window, timeout time.Duration, drawings string) verdict {
	found := verdict{Sku: of.sku, Calls: len(of.calls), Why: []string{}}
	for _, one := range of.calls {
		if one.doubtful {
			found.Doubtful++
		}
	}
	prepared, err := prepare(of)
	if err != nil {
		found.Result, found.Why = string(porcupine.Illegal), []string{err.Error()}
		return found
	}
	found.Operations = len(prepared.made)
	began, how := time.Now(), model(len(prepared.numbers))
	steps, fits := prepared.inOrder()
	fits = fits && len(prepared.order) > 0
	result := porcupine.Illegal
	if fits {
		result = porcupine.CheckOperationsTimeout(how, steps, timeout)
	}
	if result != porcupine.Ok {
		found.Searched = true
		result = porcupine.CheckOperationsTimeout(how, prepared.made, timeout)
	}
	found.Seconds, found.Result = time.Since(began).Seconds(), string(result)
	if result == porcupine.Ok {
		return found
	}
	if result == porcupine.Illegal || !fits {
		steps = prepared.made
	}
	found.Why = explain(of.sku, how, steps, timeout, drawings)
	return found
}

// explain searches again, slowly, and names what could not be placed behind the longest order that there is.
func explain(sku string, how porcupine.Model, steps []porcupine.Operation, timeout time.Duration, drawings string) []string {
	_, info := porcupine.CheckOperationsVerbose(how, steps, timeout)
	longest := map[*step]bool{}
	for _, some := range info.PartialLinearizationsOperations()[0] {
		if len(some) > len(longest) {
			longest = map[*step]bool{}
			for _, one := range some {
				longest[one.Input.(*step)] = true
			}
		}
	}
	left := []porcupine.Operation{}
	for _, one := range steps {
		if !longest[one.Input.(*step)] {
			left = append(left, one)
		}
	}
	sort.Slice(left, func(i, j int) bool { return left[i].Return < left[j].Return })
	why := []string{fmt.Sprintf("%d of %d operations have an order; then none of these fits:", len(longest), len(steps))}
	for i := 0; i < len(left) && i < shown; i++ {
		why = append(why, left[i].Input.(*step).String())
	}
	if drawings != "" {
		path := filepath.Join(drawings, sku+".html")
		if err := porcupine.VisualizePath(how, info, path); err != nil {
			return append(why, err.Error())
		}
		why = append(why, "drawn in "+path)
	}
	return why
}
