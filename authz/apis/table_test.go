package apis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

func description(id, segment string) *keymanager.API {
	return &keymanager.API{
		ID: keymanager.APIID(id), Name: id, Context: "/" + segment, Version: "1", State: keymanager.StatePublished,
		Production: []string{"http://127.0.0.1:1"},
		Resources:  []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny}},
	}
}

// follow keeps t up to date until the test ends.
func follow(tt *testing.T, t *Table, km keymanager.Catalog) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = km.Watch(ctx, t.Start(), []keymanager.CatalogKind{keymanager.CatalogAPI}, t.Apply)
		}
	}()
	tt.Cleanup(func() { cancel(); <-done })
}

func await(tt *testing.T, t *Table, p keymanager.Position) {
	tt.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for t.Position().Epoch != p.Epoch {
		if ctx.Err() != nil {
			tt.Fatal("the epoch never came")
		}
		time.Sleep(time.Millisecond)
	}
	if !t.Await(ctx, p.Seq) {
		tt.Fatalf("position is %v, want %v", t.Position(), p)
	}
}

func TestTableFollowsTheCatalog(t *testing.T) {
	var logged bytes.Buffer
	table := New(slog.New(slog.NewTextHandler(&logged, nil)))
	if table.Loaded() || table.Find("a") != nil {
		t.Fatal("an empty table has something")
	}
	table.All(func(*API) bool { t.Error("an empty table has something"); return true })
	created := description("created", "created")
	created.State = keymanager.StateCreated
	km := keymanagertest.New(keymanagertest.Options{}, description("a", "a"), description("b", "b"), created)
	follow(t, table, km)
	await(t, table, km.Head())
	check := func(what string, ids ...keymanager.APIID) {
		t.Helper()
		var have []keymanager.APIID
		table.All(func(a *API) bool { have = append(have, a.ID); return true })
		if all, _ := table.Len(); len(have) != len(ids) || all != len(ids) {
			t.Errorf("%s: the table has %v and counts %d, want %v", what, have, all, ids)
		}
		for _, id := range ids {
			if table.Find(id) == nil {
				t.Errorf("%s: %s is missing", what, id)
			}
		}
	}
	check("snapshot", "a", "b")

	b := table.Find("b")
	a2 := description("a", "a2")
	await(t, table, km.SetAPI(a2))
	check("one changed", "a", "b")
	if got := table.Find("a"); got.BasePath != "/a2/1" || got.Rev != km.Head().Seq {
		t.Errorf("changed API is %+v", got)
	}
	if table.Find("b") != b {
		t.Error("the change of one API replaced another")
	}

	blocked := description("b", "b")
	blocked.State = keymanager.StateBlocked
	await(t, table, km.SetAPI(blocked))
	if !table.Find("b").Blocked {
		t.Error("a blocked API is not")
	}
	retired := description("b", "b")
	retired.State = keymanager.StateRetired
	await(t, table, km.SetAPI(retired))
	check("retired", "a")
	await(t, table, km.RemoveAPI("a"))
	check("removed")
	await(t, table, km.SetAPI(description("c", "c"), description("d", "d")))
	check("added", "c", "d")

	bad := description("c", "c")
	bad.Resources[0].Path = "no slash"
	await(t, table, km.SetAPI(bad))
	check("broken", "c", "d")
	if _, broken := table.Len(); broken != 1 || table.Find("c").Broken == nil {
		t.Error("a description that cannot be used is")
	}
	if !strings.Contains(logged.String(), "no slash") {
		t.Errorf("nobody is told why: %s", &logged)
	}
	await(t, table, km.SetAPI(description("c", "c")))
	if _, broken := table.Len(); broken != 0 {
		t.Error("a repaired API counts as broken")
	}

	km.Break() // resumes
	await(t, table, km.SetAPI(description("e", "e")))
	check("resumed", "c", "d", "e")
	km.RemoveAPI("d")
	await(t, table, km.NewEpoch()) // another line of history: a snapshot
	check("new epoch", "c", "e")
}

// TestSnapshotIsAllOrNothing: half a snapshot changes nothing, and a gap asks
// for a new one.
func TestSnapshotIsAllOrNothing(t *testing.T) {
	table := New(slog.New(slog.DiscardHandler))
	at := func(n uint64) keymanager.Position { return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: n} }
	apply := func(m keymanager.Mark, a *keymanager.API) error {
		return table.Apply(keymanager.Change{Mark: m, API: a})
	}
	mark := func(typ keymanager.MessageType, n, after uint64) keymanager.Mark {
		return keymanager.Mark{Type: typ, At: at(n), After: at(after)}
	}
	for i, err := range []error{
		apply(mark(keymanager.SnapshotBegin, 3, 3), nil),
		apply(mark(keymanager.Item, 3, 3), description("a", "a")),
	} {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	if table.Loaded() || table.Find("a") != nil || table.Position() != (keymanager.Position{}) {
		t.Error("half a snapshot is in use")
	}
	if err := apply(mark(keymanager.SnapshotEnd, 3, 3), nil); err != nil || !table.Loaded() || table.Find("a") == nil {
		t.Fatal("a whole snapshot is not in use", err)
	}
	if err := apply(mark(keymanager.SnapshotBegin, 9, 9), nil); err != nil {
		t.Fatal(err)
	}
	if table.Find("a") == nil || table.Position() != at(3) {
		t.Error("a snapshot that has begun took the table away")
	}
	if table.Start() != at(3) {
		t.Error("a snapshot that broke off is not forgotten")
	}
	if err := apply(mark(keymanager.Item, 8, 7), description("b", "b")); err == nil {
		t.Fatal("a gap is taken")
	}
	if table.Find("a") == nil || table.Find("b") != nil || table.Position() != at(3) || table.Start() != (keymanager.Position{}) {
		t.Error("after a gap the table is not kept, or no snapshot is asked for")
	}
}

func TestAwait(t *testing.T) {
	table := New(slog.New(slog.DiscardHandler))
	km := keymanagertest.New(keymanagertest.Options{})
	follow(t, table, km)
	await(t, table, km.Head())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if table.Await(cancelled, 1) {
		t.Error("reached what is not there")
	}
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if !table.Await(ctx, 20) {
				t.Error("not woken")
			}
			if table.Find("api-19") == nil {
				t.Error("woken before the change was in use")
			}
		})
	}
	for i := range 20 {
		km.SetAPI(description(fmt.Sprintf("api-%d", i), "x"))
	}
	wait.Wait()
}

// TestReadersSeeWholeAPIs reads while everything changes.
func TestReadersSeeWholeAPIs(t *testing.T) {
	table := New(slog.New(slog.DiscardHandler))
	km := keymanagertest.New(keymanagertest.Options{}, description("a", "a"))
	follow(t, table, km)
	await(t, table, km.Head())
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := table.Find("a")
				if a == nil || a.Match("GET", a.BasePath+"/x") == nil {
					t.Error("the API is missing, or its parts do not fit")
					return
				}
			}
		})
	}
	for i := range 300 {
		km.SetAPI(description("a", fmt.Sprintf("a%d", i)))
		if i%100 == 99 {
			km.NewEpoch()
		}
	}
	await(t, table, km.Head())
	close(stop)
	wait.Wait()
}

var errStop = errors.New("stop")

// BenchmarkChange is the change of one API among many.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var list []*keymanager.API
			for i := range n {
				list = append(list, description(fmt.Sprintf("api-%d", i), fmt.Sprintf("c%d", i)))
			}
			table := New(slog.New(slog.DiscardHandler))
			km := keymanagertest.New(keymanagertest.Options{}, list...)
			err := km.Watch(context.Background(), keymanager.Position{}, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
				if err := table.Apply(c); err != nil {
					return err
				}
				if c.Type == keymanager.SnapshotEnd {
					return errStop
				}
				return nil
			})
			if !errors.Is(err, errStop) {
				b.Fatal(err)
			}
			at := table.Position()
			changed := description("api-7", "other")
			b.ReportAllocs()
			for b.Loop() {
				next := at
				next.Seq++
				if err := table.Apply(keymanager.Change{Mark: keymanager.Mark{Type: keymanager.Item, At: next, After: at}, API: changed}); err != nil {
					b.Fatal(err)
				}
				at = next
			}
		})
	}
}
