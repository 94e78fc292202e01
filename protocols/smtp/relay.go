package smtp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/mailbox"
)

// Relay is a Backend that takes messages at once, keeps them in a queue on disk, and delivers them later to other servers,
// as often as it takes. It serves without a Server, too: Submit takes messages of the program's own.
//
//	relay := &smtp.Relay{Dir: "queue", Hostname: "relay.example.org", Address: "mail.example.org:25"}
//	err := relay.Start(loop)
//	...
//	srv := &smtp.Server{Backend: relay, Domains: domains}
//
// A message that was answered with 250, or that Submit returned without an error for, lies in the queue with its envelope
// and survives the end of the process, and of the machine. What is known of a recipient is on the disk before anything
// follows from it, so that nobody is lost, and who has got the message does not get it again when the process is started
// anew. Only where a server has taken a message and we fall before that is written down, or its answer does not come, is
// the message sent twice: RFC 5321 section 4.5.3.2.6 and RFC 1047 prefer that to the other.
//
// What fails for now is tried again (Retry, Limits.Lifetime); what fails for good is reported to the sender, by a message
// as RFC 3464 has it, which goes through the same queue. RET, ENVID, NOTIFY and ORCPT of RFC 3461 are kept to, and handed on
// where the next server knows them; but no report of a delay is sent. Reports are sent from the null path, and a message
// from there is never reported: when it fails it is dropped, and that is logged.
//
// Relay adds no Received field: that is the Server's, and so is the limit of hops. It judges no recipients, and is no
// RcptHandler: Server.Domains and Server.Auth say whose mail is taken, so that it relays for nobody else.
//
// The queue belongs to one process, and its files are for their owner only. Sessions of other loops may use the Relay;
// the deliveries run on the loop that Start is given. It keeps the loop running until Stop or a shutdown: deliveries under
// way come to their end, within the grace, and the rest stays in the queue.
type Relay struct {
	// Dir is the directory of the queue. It is made if it is not there; the one above it must be.
	Dir string

	// Hostname is what reports say that this server is called, and what Clients say that have no other name; the system's
	// if "".
	Hostname string

	// Network and Address are the next server, for all mail, as for Client.Dial; Network is "tcp" if "".
	Network, Address string

	// Route, if set, says where mail for a domain goes instead. It is called on the loop, once for each message and domain,
	// also when the queue is read again at the start. The domain is in lower case, and "" for Postmaster without one. With
	// an error of the kind *Reply that is not Temporary the mail fails, with another it waits. An address "" is by Resolver.
	Route func(domain string) (network, address string, err error)

	// Resolver finds the mail exchangers of a domain where neither Route nor Address says where to go: net.DefaultResolver
	// is one. Without it such mail fails. It is called off the loop, with a dot behind the domain. The servers are tried by
	// preference; a domain without MX records is its own (RFC 5321 section 5.1), and one that has the null MX takes no mail
	// (RFC 7505). Of servers that are called Hostname, and those behind them, none is tried. Names that are not ASCII are
	// not translated: for them it takes a Resolver, and a Route, that do that.
	Resolver MXResolver

	// Port is that of mail exchangers: "25" if "".
	Port string

	// NewClient, if set, returns the Client for a connection, not dialled: with TLS, password and times. Its Closed is
	// Relay's.
	NewClient func(network, address string) *Client

	// Limits bound the queue, and how it is worked off.
	Limits RelayLimits

	// Retry is how long a message, or a server that cannot be reached, is left alone after each failure; the last one counts
	// from then on. Nil is DefaultRetry. Up to a tenth is added by chance, so that not all comes at once.
	Retry []time.Duration

	// Seed makes chance foreseeable; 0: it is not.
	Seed uint64

	// Report, if set, is called on the loop with what becomes of recipients, instead of a line in the loop's log.
	Report func(*RelayReport)

	// Bounce, if set, is asked on the loop before a report is sent to whom a message is from. false: none is sent.
	Bounce func(from Path, failed []*RelayReport) bool

	// Stopped, if set, is called on the loop when the Relay is at its end and the queue free for others.
	Stopped func()

	hostname string
	limits   RelayLimits
	retry    []time.Duration
	port     string
	rng      *rand.Rand
	loop     *core.Loop
	log      *slog.Logger
	q        relayQueue
	ch       *core.Dispatcher
	started  atomic.Bool
	over     atomic.Bool  // no further message is taken
	closed   atomic.Bool  // the queue is
	coming   atomic.Int64 // messages that may still be taken
	serial   atomic.Uint64
	counts   relayCounts

	mu       sync.Mutex // what sessions of other loops and Submit touch
	messages int        // in the queue, or coming
	rcpts    int        // of these
	octets   int64      // of these
	inbox    []*held    // accepted, and not known to the loop yet
	posted   bool

	hops      map[string]*hop
	conns     []*relayConn
	starved   []*hop  // that would have a connection if there were not so many
	sending   int     // messages that are on their way
	working   int     // work off the loop
	dirty     []*held // to be written down
	recording bool
	stopping  bool
}

// RelayLimits bound a Relay. A field that is 0 has the default that its comment gives; a negative one is no bound.
type RelayLimits struct {
	// Messages is how many messages the queue can have: 10,000; Octets how large they are together, with their envelopes:
	// 1 GiB; Recipients how many recipients they have: 100,000. Further ones are answered with 452. Reports of the Relay's
	// own are counted, but always taken.
	Messages   int
	Octets     int64
	Recipients int

	// Conns is how many connections there are at a time: 50; ConnsPerHop how many of them to one place: 5; and MessagesPerConn
	// how many messages go over one: 100.
	Conns           int
	ConnsPerHop     int
	MessagesPerConn int

	// IdleTimeout is how long a connection is kept that has nothing to do, if its Client does not say: 10 seconds.
	IdleTimeout time.Duration

	// Lifetime is how old a message becomes: 5 days. If it fails then once more, it fails for good. RFC 5321 section 4.5.4.1
	Lifetime time.Duration

	// ReportedMessage is how much of a message is sent back in a report of which its sender wants all (RET=FULL): 1 MiB. Of a
	// larger one, and unless he wants all, it is the header.
	ReportedMessage int64
}

func (l *RelayLimits) setDefaults() {
	or(&l.Messages, 10_000)
	or(&l.Octets, 1<<30)
	or(&l.Recipients, 100_000)
	or(&l.Conns, 50)
	or(&l.ConnsPerHop, 5)
	or(&l.MessagesPerConn, 100)
	or(&l.IdleTimeout, 10*time.Second)
	or(&l.Lifetime, 5*24*time.Hour)
	or(&l.ReportedMessage, 1<<20)
}

// DefaultRetry is Relay.Retry unless told.
var DefaultRetry = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

// MXResolver looks mail exchangers up; a *net.Resolver is one.
type MXResolver interface {
	// LookupMX returns the mail exchangers, in any order. None, or a *net.DNSError that IsNotFound: there are none.
	LookupMX(ctx context.Context, domain string) ([]*net.MX, error)
}

// RelayEvent is what became of recipients.
type RelayEvent uint8

const (
	RelayDelivered RelayEvent = iota // the next server has the message
	RelayDeferred                    // it will be tried again
	RelayFailed                      // it will not
)

func (e RelayEvent) String() string {
	return [...]string{"delivered", "deferred", "failed"}[min(e, RelayFailed)]
}

// RelayReport tells what became of recipients of a message.
type RelayReport struct {
	ID    string // the message's, as the Server or Submit told it
	Event RelayEvent
	From  Path
	To    []Recipient // to whom this has happened
	Hop   string      // where it was to go; "" if that is not known
	Reply *Reply      // the last word, of the other server or our own

	Own  bool      // Reply is our own
	Next time.Time // RelayDeferred: not before

	relayed bool // delivered to a server that does not report deliveries
	final   bool // which is the last one: it speaks LMTP
}

// RelayCounters count what happened in a Relay.
type RelayCounters struct {
	Queued    int64 // messages that were taken, without reports
	Delivered int64 // recipients whose next server has the message
	Deferred  int64 // failures of recipients for now
	Failed    int64 // recipients that failed for good
	Reports   int64 // that were queued
	Dropped   int64 // recipients that failed and are not reported to anybody
}

type relayCounts struct{ queued, delivered, deferred, failed, reports, dropped atomic.Int64 }

// Counters returns what happened since Start. From any goroutine.
func (r *Relay) Counters() RelayCounters {
	c := &r.counts
	return RelayCounters{
		Queued: c.queued.Load(), Delivered: c.delivered.Load(), Deferred: c.deferred.Load(),
		Failed: c.failed.Load(), Reports: c.reports.Load(), Dropped: c.dropped.Load(),
	}
}

// Len returns how many messages are in the queue, or on their way into it, and Octets how large they are. From any
// goroutine.
func (r *Relay) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages
}

func (r *Relay) Octets() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.octets
}

// relayQueue is a *mailbox.Queue; tests have others.
type relayQueue interface {
	Begin() (*mailbox.Delivery, error)
	List() ([]string, error)
	Open(name string) (*io.SectionReader, io.Closer, error)
	Note(name string) ([]byte, error)
	SetNote(name string, note []byte) error
	Remove(names ...string) error
	Close() error
}

// openRelayQueue opens a queue. Tests replace it.
var openRelayQueue = func(dir string) (relayQueue, error) { return mailbox.OpenQueue(dir) }

// relayPause is how long the Relay waits when the queue cannot be written to.
const relayPause = time.Minute

// Replies of a Relay.
var (
	errQueueFull    = Replyf(452, "4.3.1", "The queue is full, try again later")
	errQueueClosed  = Replyf(451, "4.3.2", "The queue is closed, try again later")
	errRelayStarted = errors.New("smtp: the Relay was started already")
)

// Start opens the queue, reads what is in it, and begins to deliver it on the loop. It blocks for that: call it before
// the loop runs, and before a Server has the Relay. A Relay can be started once. Errors: mailbox.ErrLocked: somebody has the
// queue; those of the file system, and of the loop.
func (r *Relay) Start(l *core.Loop) error {
	if r.started.Load() {
		return errRelayStarted
	}
	if err := r.configure(l); err != nil {
		return err
	}
	q, err := openRelayQueue(r.Dir)
	if err != nil {
		return err
	}
	r.q = q
	all, err := r.read()
	if err == nil {
		r.ch, err = core.NewChannel(l, (*relayHandler)(r))
	}
	if err != nil {
		_ = q.Close()
		r.messages, r.rcpts, r.octets = 0, 0, 0
		return err
	}
	r.started.Store(true)
	for _, m := range all {
		r.enqueue(m)
	}
	return nil
}

func (r *Relay) configure(l *core.Loop) (err error) {
	if r.hostname = r.Hostname; r.hostname == "" {
		if r.hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("smtp: Relay.Hostname is empty, and the system's: %w", err)
		}
	}
	if !goodHello(r.hostname) {
		return fmt.Errorf("smtp: Relay.Hostname %q is no host name", r.hostname)
	}
	if r.Dir == "" {
		return errors.New("smtp: Relay.Dir is empty")
	}
	if r.retry = r.Retry; len(r.retry) == 0 {
		r.retry = DefaultRetry
	}
	for _, d := range r.retry {
		if d <= 0 {
			return fmt.Errorf("smtp: Relay.Retry has %s", d)
		}
	}
	seed := r.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r.port = cmp.Or(r.Port, "25")
	r.rng = rand.New(rand.NewPCG(seed, 0x5DEECE66D))
	r.limits = r.Limits
	r.limits.setDefaults()
	r.loop, r.log, r.hops = l, l.Logger(), make(map[string]*hop)
	return nil
}

// read reads the queue. A message whose envelope cannot be read stays where it is, for somebody to look at.
func (r *Relay) read() (all []*held, err error) {
	names, err := r.q.List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		m, err := r.load(name)
		if err != nil {
			r.log.Error("smtp relay: message left alone", "file", name, "error", err)
			continue
		}
		all = append(all, m)
		r.messages++
		r.rcpts += len(m.to)
		r.octets += m.size
	}
	slices.SortStableFunc(all, func(a, b *held) int { return a.at.Compare(b.at) })
	return all, nil
}

// load reads the envelope and the note of a message.
func (r *Relay) load(name string) (*held, error) {
	text, f, err := r.q.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head, err := readHead(text)
	if err != nil {
		return nil, err
	}
	m, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	m.name, m.size, m.head = name, text.Size(), int64(len(head))
	note, err := r.q.Note(name)
	if err != nil {
		return nil, err
	}
	if err := m.applyNote(note); err != nil { // better twice than never
		r.log.Error("smtp relay: whom a message has reached already is not known", "id", m.id, "file", name, "error", err)
	}
	return m, nil
}

// Stop ends the Relay, from any goroutine, and returns at once. No delivery begins any more, and no message is taken; those
// under way come to their ends, and what came of them is written down. Then Stopped is called. The rest stays in the queue,
// for the next start.
func (r *Relay) Stop() {
	if r.started.Load() && !r.over.Swap(true) {
		r.loop.Post(r.stop)
	}
}

func (r *Relay) stop() {
	if r.stopping || r.ch.Closed() {
		return
	}
	r.over.Store(true)
	r.stopping = true
	for _, c := range slices.Clone(r.conns) {
		c.leave()
	}
	r.end()
}

// end ends the Relay when nothing is under way.
func (r *Relay) end() {
	if r.stopping && r.sending == 0 && r.working == 0 && len(r.dirty) == 0 && r.coming.Load() == 0 {
		_ = r.ch.Close()
	}
}

// relayHandler is a Relay as the handler of its channel.
type relayHandler Relay

// HandleShutdown: see Stop.
func (h *relayHandler) HandleShutdown(*core.Dispatcher) error {
	(*Relay)(h).stop()
	return nil
}

// HandleError: a func of the caller's panicked. The queue is worked on all the same.
func (h *relayHandler) HandleError(d *core.Dispatcher, err error) { d.LogError(err) }

// HandleClose: the end. What was not written down yet is written now: the loop has nothing else to do any more.
func (h *relayHandler) HandleClose(*core.Dispatcher, error) {
	r := (*Relay)(h)
	r.over.Store(true)
	r.closed.Store(true)
	r.stopping = true
	for _, c := range slices.Clone(r.conns) {
		c.client.Close()
	}
	batch := r.batch()
	r.recorded(batch, batch.write(r.q))
	if err := r.q.Close(); err != nil {
		r.log.Error("smtp relay", "error", err)
	}
	if r.Stopped != nil {
		r.Stopped()
	}
}

// work runs f off the loop, and then done on it.
func (r *Relay) work(f func(ctx context.Context) error, done func(error)) {
	if r.ch.Closed() {
		return
	}
	r.working++
	core.Go(r.ch, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }, func(_ struct{}, err error) error {
		r.working--
		defer r.end()
		done(err)
		return nil
	})
}
