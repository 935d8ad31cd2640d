package cache

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisLanes = 2 // one sends while the other waits
	// maxRedisRead is how many look-ups share a round trip at most.
	maxRedisRead = 128
	// laneTimeout bounds the round trip of a lane. It may have to make a
	// connection first, which whoever asks does not wait for.
	laneTimeout = 250 * time.Millisecond
)

// lookup is a question on its way through a lane.
type lookup struct {
	name  string
	done  chan struct{} // capacity 1
	value []byte
	err   error
}

// lanes join the look-ups of many callers into few round trips: one at a time,
// each would take three times the processor, half of it in the kernel. A caller
// who has left is answered to nobody.
type lanes struct {
	client  redis.UniversalClient
	waiting chan *lookup
	timers  sync.Pool // of *time.Timer
	lookups sync.Pool // of *lookup; only what was answered goes back
}

func newLanes(client redis.UniversalClient) *lanes {
	return &lanes{client: client, waiting: make(chan *lookup, 4*maxRedisRead)}
}

// get waits for one value until ctx ends, or for the time that within says.
func (l *lanes) get(ctx context.Context, name string, within time.Duration) ([]byte, error) {
	q, ok := l.lookups.Get().(*lookup)
	if !ok {
		q = &lookup{done: make(chan struct{}, 1)}
	}
	q.name = name
	timer, ok := l.timers.Get().(*time.Timer)
	if ok {
		timer.Reset(within)
	} else {
		timer = time.NewTimer(within)
	}
	defer func() { timer.Stop(); l.timers.Put(timer) }()
	select {
	case l.waiting <- q:
	case <-timer.C:
		return nil, context.DeadlineExceeded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-q.done:
		value, err := q.value, q.err
		q.value, q.err = nil, nil
		l.lookups.Put(q)
		return value, err
	case <-timer.C:
		return nil, context.DeadlineExceeded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run is one lane.
func (l *lanes) run(ctx context.Context) {
	batch := make([]*lookup, 0, maxRedisRead)
	for {
		batch = batch[:0]
		select {
		case q := <-l.waiting:
			batch = append(batch, q)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < maxRedisRead; {
			select {
			case q := <-l.waiting:
				batch = append(batch, q)
			default:
				more = false
			}
		}
		l.exchange(ctx, batch)
	}
}

// exchange answers a batch.
func (l *lanes) exchange(ctx context.Context, batch []*lookup) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	if len(batch) == 1 {
		q := batch[0]
		q.value, q.err = readValue(ctx, l.client, q.name).Bytes()
		q.done <- struct{}{}
		return
	}
	pipe := l.client.Pipeline()
	commands := make([]*redis.StringCmd, len(batch))
	for i, q := range batch {
		commands[i] = readValue(ctx, pipe, q.name)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, q := range batch {
		q.value, q.err = commands[i].Bytes()
		q.done <- struct{}{}
	}
}
