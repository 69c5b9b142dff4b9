package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// usage of a process, by the scheduler's own accounting: time that it ran, whoever else wanted the processor.
type usage struct {
	cpuMicros float64
	rssMiB    float64
}

// usageOf reads /proc/PID/task/*/schedstat, whose first number is the nanoseconds on a processor, and VmRSS.
func usageOf(pid int) (usage, error) {
	var out usage
	if pid == 0 {
		return out, nil
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return out, fmt.Errorf("process %d has no schedstat", pid)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			// A thread that ended since.
			continue
		}
		ran, _, _ := strings.Cut(string(text), " ")
		nanos, err := strconv.ParseFloat(ran, 64)
		if err != nil {
			return out, err
		}
		out.cpuMicros += nanos / 1000
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return out, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				return out, err
			}
			out.rssMiB = kib / 1024
		}
	}
	return out, nil
}
