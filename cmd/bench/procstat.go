package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processCPU returns the CPU time that process pid has used, in microseconds
// (/proc/PID/task/*/schedstat: nanosecond resolution, unlike /proc/PID/stat).
func processCPU(pid int) float64 {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	var us float64
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // the thread ended
		}
		if f := strings.Fields(string(b)); len(f) > 0 {
			ns, _ := strconv.ParseFloat(f[0], 64)
			us += ns / 1e3
		}
	}
	return us
}

// residentMB returns the resident set of process pid in MB.
func residentMB(pid int) float64 { return statusMB(pid, "VmRSS:") }

// statusMB returns a size of /proc/PID/status in MB.
func statusMB(pid int, name string) float64 {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kb, _ := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
			return kb / 1024
		}
	}
	return 0
}

// machineCPU returns the busy, stolen and total time of all cores, in
// microseconds.
func machineCPU() (busy, stolen, total float64) {
	const tick = 1e4 // µs; USER_HZ is 100 on every Linux that matters here
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, 0, 0
	}
	for i, s := range fields[1:9] {
		v, _ := strconv.ParseFloat(s, 64)
		total += v
		switch i {
		case 3, 4: // idle, iowait
		case 7:
			stolen += v
		default:
			busy += v
		}
	}
	return busy * tick, stolen * tick, total * tick
}

// ownCPU returns the CPU time of this process, in microseconds.
func ownCPU() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e3
}
