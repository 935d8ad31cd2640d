package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseProgram takes the pages of the program's own file out of this process:
// what starting has read is four fifths of them, and nobody reads it again. The
// kernel keeps them while it has memory to spare, and maps those that are needed
// at their next use. Where it cannot be done, nothing happens.
func releaseProgram() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range programMaps(string(maps), file) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED)
	}
}

type addressRange struct{ start, end uintptr }

// programMaps returns where the pages of file are that cannot be written, out
// of a list as /proc/PID/maps is one (proc_pid_maps(5)):
//
//	00400000-01a41000 r-xp 00000000 fe:01 123 /usr/bin/tollgate
func programMaps(maps, file string) []addressRange {
	var found []addressRange
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		if len(f) != 6 || f[5] != file || f[1] != "r-xp" && f[1] != "r--p" {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			continue
		}
		if end, err := strconv.ParseUint(to, 16, 64); err == nil && start < end {
			found = append(found, addressRange{uintptr(start), uintptr(end)})
		}
	}
	return found
}
