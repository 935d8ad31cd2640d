package keymanager

import "testing"

func TestCursor(t *testing.T) {
	at := func(n uint64) Position { return Position{Epoch: Epoch{1}, Seq: n} }
	other := func(n uint64) Position { return Position{Epoch: Epoch{2}, Seq: n} }
	snapshot := []Mark{{SnapshotBegin, at(5), at(5)}, {Item, at(5), at(5)}, {SnapshotEnd, at(5), at(5)}}
	with := func(more ...Mark) []Mark { return append(append([]Mark{}, snapshot...), more...) }
	for _, tt := range []struct {
		name   string
		marks  []Mark
		broken int      // index of the mark that is refused; -1 = none
		start  Position // of the next stream
	}{
		{"nothing", nil, -1, Position{}},
		{"snapshot", snapshot, -1, at(5)},
		{"half a snapshot", snapshot[:2], -1, Position{}},
		{"empty log", []Mark{{SnapshotBegin, at(0), at(0)}, {SnapshotEnd, at(0), at(0)}}, -1, at(0)},
		{"items", with(Mark{Item, at(6), at(5)}, Mark{Item, at(9), at(6)}), -1, at(9)},
		{"heartbeat moves the place", with(Mark{Heartbeat, at(8), at(5)}, Mark{Item, at(9), at(8)}), -1, at(9)},
		{"heartbeat at rest", with(Mark{Heartbeat, at(5), at(5)}), -1, at(5)},
		{"second snapshot", with(snapshot...), -1, at(5)},
		{"second snapshot of another epoch", with(Mark{SnapshotBegin, other(2), other(2)}, Mark{SnapshotEnd, other(2), other(2)}), -1, other(2)},
		{"second snapshot breaks off", with(snapshot[:2]...), -1, at(5)},
		{"item first", []Mark{{Item, at(1), at(0)}}, 0, Position{}},
		{"heartbeat first", []Mark{{Heartbeat, at(1), at(0)}}, 0, Position{}},
		{"end first", snapshot[2:], 0, Position{}},
		{"gap", with(Mark{Item, at(8), at(7)}), 3, Position{}},
		{"gap before a heartbeat", with(Mark{Heartbeat, at(8), at(7)}), 3, Position{}},
		{"repeated", with(Mark{Item, at(6), at(5)}, Mark{Item, at(6), at(5)}), 4, Position{}},
		{"backwards", with(Mark{Item, at(4), at(5)}), 3, Position{}},
		{"another epoch", with(Mark{Item, other(6), at(5)}), 3, Position{}},
		{"end without begin", with(snapshot[2]), 3, Position{}},
		{"heartbeat within", []Mark{snapshot[0], {Heartbeat, at(5), at(5)}}, 1, Position{}},
		{"item of another place within", []Mark{snapshot[0], {Item, at(6), at(5)}}, 1, Position{}},
		{"end of another place", []Mark{snapshot[0], {SnapshotEnd, at(6), at(6)}}, 1, Position{}},
		{"no type", with(Mark{0, at(6), at(5)}), 3, Position{}},
		{"unknown type", with(Mark{9, at(6), at(5)}), 3, Position{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Cursor
			broken := -1
			for i, m := range tt.marks {
				if err := c.Accept(m); err != nil {
					broken = i
					break
				}
			}
			if broken != tt.broken {
				t.Errorf("mark %d is refused, want %d", broken, tt.broken)
			}
			if got := c.Start(); got != tt.start {
				t.Errorf("next stream starts at %v, want %v", got, tt.start)
			}
			if c.InSnapshot() {
				t.Error("still within a snapshot")
			}
		})
	}
}
