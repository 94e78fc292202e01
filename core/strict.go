package core

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// The names of the handler methods of each layer, for the check of misspelt ones.
var known struct {
	sync.Mutex
	layers map[string]map[string][]reflect.Type // layer -> method -> interfaces that have it
}

// RegisterHandlers tells which handler interfaces a layer detects. A layer calls it once, from a package variable or an
// init func; T is given as reflect.TypeFor[T]().
func RegisterHandlers(layer string, interfaces ...reflect.Type) {
	known.Lock()
	defer known.Unlock()
	if known.layers == nil {
		known.layers = make(map[string]map[string][]reflect.Type)
	}
	names := make(map[string][]reflect.Type)
	for _, t := range interfaces {
		for i := range t.NumMethod() {
			name := t.Method(i).Name
			names[name] = append(names[name], t)
		}
	}
	known.layers[layer] = names
}

func init() {
	RegisterHandlers("core",
		reflect.TypeFor[ReadHandler[*Dispatcher]](),
		reflect.TypeFor[WriteHandler[*Dispatcher]](),
		reflect.TypeFor[ExptHandler[*Dispatcher]](),
		reflect.TypeFor[ConnectHandler[*Dispatcher]](),
		reflect.TypeFor[FlushHandler[*Dispatcher]](),
		reflect.TypeFor[LevelHandler[*Dispatcher]](),
		reflect.TypeFor[EOFHandler[*Dispatcher]](),
		reflect.TypeFor[TimeoutHandler[*Dispatcher]](),
		reflect.TypeFor[SecureHandler[*Dispatcher]](),
		reflect.TypeFor[ShutdownHandler[*Dispatcher]](),
		reflect.TypeFor[ErrorHandler[*Dispatcher]](),
		reflect.TypeFor[CloseHandler[*Dispatcher]](),
		reflect.TypeFor[AcceptedHandler](),
		reflect.TypeFor[PacketHandler](),
		reflect.TypeFor[UnixPacketHandler](),
		reflect.TypeFor[ReadPredicate](),
		reflect.TypeFor[WritePredicate](),
	)
}

// CheckHandler looks for methods of h that the layer will silently not call: one whose name, case aside, is at most two
// edits from a handler method's, or equal but with another signature. The error names the method that was meant.
func CheckHandler(layer string, h any) error {
	known.Lock()
	defer known.Unlock()
	t := reflect.TypeOf(h)
	for i := range t.NumMethod() {
		m := t.Method(i)
		if ifaces, ok := known.layers[layer][m.Name]; ok {
			if !slices.ContainsFunc(ifaces, t.Implements) && !anyLayerHas(t, m.Name) {
				return fmt.Errorf("parley: %v.%s is never called: its signature is not that of %v", t, m.Name, ifaces[0])
			}
			continue
		}
		if anyLayerKnows(m.Name) {
			continue
		}
		if meant := nearest(m.Name, known.layers[layer]); meant != "" {
			return fmt.Errorf("parley: %v.%s is never called: did you mean %s?", t, m.Name, meant)
		}
	}
	return nil
}

func anyLayerKnows(name string) bool {
	for _, names := range known.layers {
		if _, ok := names[name]; ok {
			return true
		}
	}
	return false
}

// anyLayerHas tells whether the method is a handler method of another layer, and rightly so.
func anyLayerHas(t reflect.Type, name string) bool {
	for _, names := range known.layers {
		if slices.ContainsFunc(names[name], t.Implements) {
			return true
		}
	}
	return false
}

// nearest returns the name that is at most two edits from the given one, "" if there is none.
func nearest(name string, names map[string][]reflect.Type) (meant string) {
	best := 3
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < best {
			best, meant = d, n
		}
	}
	return meant
}

// distance is the edit distance of two words (Wagner and Fischer's table, row by row).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// auditAll is up to how many channels all are audited before each pass; with more, only those that had an event.
const auditAll = 256

// audit compares the cached interest of a channel with what its layer works out (Options.Strict).
func (d *Dispatcher) audit() {
	if !d.has.has(hasAudit) || !d.alive() || d.Connecting() || d.state&(stFailed|stDirty) != 0 {
		return
	}
	want := as[InterestAuditor](d.h).AuditInterest(d) & d.dirs
	if got := d.Interest(); want != got {
		d.loop.broken(fmt.Errorf("parley: audit: %v waits for %v but its layer needs %v", d, got, want))
	}
}
