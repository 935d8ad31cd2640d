//go:build soak

package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// soakPoint is one sample of one process, or of a store.
type soakPoint struct {
	at       time.Duration // since the soak began
	life     int           // when the process was started, in seconds
	measures [soakMeasures]float64
}

const (
	soakRSS         = iota // MB
	soakFDs                // open descriptors; of Redis its clients, of PostgreSQL its connections
	soakConnections        // of Envoy: how many of them are those of callers and back ends
	soakGoroutines         // of Envoy: threads
	soakHeap               // MB live at the last collection, of Envoy allocated; of PostgreSQL the size of the database, of Redis used_memory
	soakRows               // of PostgreSQL: access tokens; of Redis: keys
	soakMeasures
)

// soakTraffic is what a client met in the seconds before a sample.
type soakTraffic struct {
	at        time.Duration
	p50, p99  time.Duration
	undecided int
	calls     int
}

// sampler looks at every process every few seconds.
type sampler struct {
	s      *soak
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	points map[string][]soakPoint
	load   []soakTraffic
}

// starving watches how long this process itself waits for a processor: on a
// machine that is busy with other things nobody keeps a deadline of half a
// second. It keeps when that was.
func (s *soak) starving(ctx context.Context) {
	const nap, tooLong = 5 * time.Millisecond, 50 * time.Millisecond
	for ctx.Err() == nil {
		from := time.Now()
		time.Sleep(nap)
		if to := time.Now(); to.Sub(from) > nap+tooLong {
			s.mu.Lock()
			s.starved = append(s.starved, soakFault{"busy machine", from, to})
			s.mu.Unlock()
		}
	}
}

func newSampler(s *soak) *sampler {
	ctx, cancel := context.WithCancel(context.Background())
	m := &sampler{s: s, cancel: cancel, points: map[string][]soakPoint{}}
	m.tasks.Go(func() { s.starving(ctx) })
	m.tasks.Go(func() { every(ctx, soakSample, m.sample) })
	return m
}

func (m *sampler) stop() { m.cancel(); m.tasks.Wait() }

func (m *sampler) sample(ctx context.Context) {
	s := m.s
	s.mu.Lock()
	pids, born, load := maps.Clone(s.pids), maps.Clone(s.born), s.report.load
	s.mu.Unlock()
	at := time.Since(s.began)
	for _, n := range s.Nodes() {
		pid, ok := pids[n.Name]
		if !ok {
			continue
		}
		p := soakPoint{at: at, life: int(born[n.Name].Sub(s.began).Seconds())}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		fds, errFDs := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil || errFDs != nil {
			continue // it ended just now
		}
		p.measures[soakRSS] = field(string(status), "VmRSS:") / 1024
		p.measures[soakFDs] = float64(len(fds))
		path := "/metrics"
		if strings.HasPrefix(n.Name, "envoy") {
			path = "/stats?filter=^server.memory_allocated$|^(http|cluster).*stream_cx_active$"
		}
		text := m.get(ctx, "http://"+n.Ops+path)
		if text == "" {
			continue // it is starting
		}
		if path == "/metrics" {
			p.measures[soakGoroutines] = field(text, "go_goroutines ")
			p.measures[soakHeap] = field(text, "go_gc_heap_live_bytes ") / 1e6
		} else {
			p.measures[soakGoroutines] = field(string(status), "Threads:")
			p.measures[soakHeap] = field(text, "server.memory_allocated:") / 1e6
			for line := range strings.Lines(text) {
				if name, _, _ := strings.Cut(line, " "); strings.HasSuffix(name, "stream_cx_active:") {
					p.measures[soakConnections] += field(line, name)
				}
			}
		}
		m.points[n.Name] = append(m.points[n.Name], p)
	}
	m.stores(ctx, at)
	if load != nil {
		t := soakTraffic{at: at}
		t.p50, t.p99, t.undecided, t.calls = load.cut()
		m.load = append(m.load, t)
	}
}

func (m *sampler) stores(ctx context.Context, at time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	p := soakPoint{at: at}
	var size, connections, rows int64
	if err := m.s.query(ctx, `SELECT pg_database_size(current_database()), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
		(SELECT count(*) FROM access_token)`, []any{&size, &connections, &rows}); err == nil {
		p.measures[soakHeap], p.measures[soakFDs], p.measures[soakRows] = float64(size)/1e6, float64(connections), float64(rows)
		m.points["postgres"] = append(m.points["postgres"], p)
	}
	p = soakPoint{at: at}
	info, err := m.s.Redis.Client().Info(ctx, "memory", "clients").Result()
	keys, errKeys := m.s.Redis.Client().DBSize(ctx).Result()
	if err == nil && errKeys == nil {
		p.measures[soakHeap], p.measures[soakRSS] = field(info, "used_memory:")/1e6, field(info, "used_memory_rss:")/(1<<20)
		p.measures[soakFDs], p.measures[soakRows] = field(info, "connected_clients:"), float64(keys)
		m.points["redis"] = append(m.points["redis"], p)
	}
}

// query reads one row of the database, or executes.
func (s *soak) query(ctx context.Context, sql string, into []any) error {
	conn, err := pgx.Connect(ctx, s.Postgres.DSN())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if into == nil {
		_, err = conn.Exec(ctx, sql)
		return err
	}
	return conn.QueryRow(ctx, sql).Scan(into...)
}

func (m *sampler) get(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return ""
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return ""
	}
	return string(text)
}

// field finds the number behind a name at the begin of a line.
func field(text, name string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				v, _ := strconv.ParseFloat(f[0], 64)
				return v
			}
		}
	}
	return 0
}

// measure returns one of the figures of a sample.
func measure(of int) func(soakPoint) float64 {
	return func(p soakPoint) float64 { return p.measures[of] }
}

// ownDescriptors are those that are not the connections of callers and back ends,
// whose number comes and goes with the load.
func ownDescriptors(p soakPoint) float64 { return p.measures[soakFDs] - p.measures[soakConnections] }

// withoutConnections replaces goroutines by how many there would be with as many
// descriptors as there are on average. A connection of gRPC has four of them, and
// with how many clients a process has at the moment goes the line through all
// samples; a leak of connections shows in the descriptors.
func withoutConnections(points []soakPoint) []soakPoint {
	n := float64(len(points))
	var fds, goroutines, both, squares float64
	for _, p := range points {
		fds += p.measures[soakFDs] / n
		goroutines += p.measures[soakGoroutines] / n
	}
	for _, p := range points {
		d := p.measures[soakFDs] - fds
		both += d * (p.measures[soakGoroutines] - goroutines)
		squares += d * d
	}
	if squares == 0 {
		return points
	}
	out := slices.Clone(points)
	for i := range out {
		out[i].measures[soakGoroutines] -= both / squares * (out[i].measures[soakFDs] - fds)
	}
	return out
}

// trend is a robust line through samples: the median of the slopes of all pairs
// (Theil and Sen), per ten minutes, and the median of the values.
func trend(points []soakPoint, value func(soakPoint) float64) (slope, median float64) {
	var slopes, values []float64
	for i, a := range points {
		values = append(values, value(a))
		for _, b := range points[:i] {
			if dt := (a.at - b.at).Minutes(); dt > 0 {
				slopes = append(slopes, (value(a)-value(b))/dt*10)
			}
		}
	}
	if len(slopes) == 0 {
		return 0, 0
	}
	slices.Sort(slopes)
	slices.Sort(values)
	return slopes[len(slopes)/2], values[len(values)/2]
}
