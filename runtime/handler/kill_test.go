package handler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// immortal makes processes of s that no signal of ours ends, until the returned
// function is called: what one looks like that hangs in the kernel.
func immortal(s *Spec) (release func()) {
	var mortal atomic.Bool
	s.KillWithin = 300 * time.Millisecond
	s.means = means{
		signal: func(p *os.Process) {
			if mortal.Load() {
				sweep(p)
			}
		},
		hunt: func(mark string, group int, within time.Duration) *survivor {
			if mortal.Load() {
				return hunt(mark, group, within)
			}
			return nil
		},
	}
	return func() { mortal.Store(true) }
}

func TestAProcessThatCannotBeKilledIsNamedInBoundedTime(t *testing.T) {
	for name, end := range map[string]func(*Handler) error{
		"kill": (*Handler).Kill,
		"stop": func(h *Handler) error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			return h.Stop(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := spec(t, "good")
			release := immortal(&s)
			h := start(t, s)
			defer release()
			freeze(t, h.PID())
			begun := time.Now()
			err := end(h)
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
			var left *SurvivesError
			if !errors.Is(err, ErrSurvives) || !errors.As(err, &left) {
				t.Fatalf("got %v, want ErrSurvives", err)
			}
			if left.PID != h.PID() || left.Adapter != "good" {
				t.Errorf("got %+v, want the process's number and name", left)
			}
			if runtime.GOOS == "linux" && !strings.HasPrefix(left.State, "stopped") {
				t.Errorf("state %q, want what it does", left.State)
			}
			await(t, h.Done(), "the handler to be given up")
			if err := h.Err(); !errors.Is(err, ErrSurvives) {
				t.Errorf("its end is %v, want ErrSurvives", err)
			}
			if err := h.Send(t.Context(), sendMessage(1)); !errors.Is(err, ErrExited) {
				t.Errorf("send to it: %v, want ErrExited", err)
			}
			release()
			if err := left.Again(); err != nil {
				t.Errorf("again, when it can be killed: %v", err)
			}
			if err := h.Kill(); err != nil {
				t.Errorf("kill of what is gone: %v", err)
			}
			eventually(t, "what belongs to it is removed", func() bool {
				left, err := os.ReadDir(s.RuntimeDir)
				return err == nil && len(left) == 0
			})
		})
	}
}

func TestAStartIsGivenUpInBoundedTimeIfItsProcessCannotBeKilled(t *testing.T) {
	s, _, _ := spec(t, "unready")
	s.times = times{ready: 200 * time.Millisecond}
	release := immortal(&s)
	_, err := Start(context.Background(), s)
	var left *SurvivesError
	if !errors.As(err, &left) {
		t.Fatalf("got %v, want ErrSurvives", err)
	}
	release()
	if err := left.Again(); err != nil {
		t.Errorf("again, when it can be killed: %v", err)
	}
	eventually(t, "what belongs to it is removed", func() bool {
		left, err := os.ReadDir(s.RuntimeDir)
		return err == nil && len(left) == 0
	})
}

// hashicorp/go-plugin#136: Kill left the plugin's own children. Here also those that
// have left its process group, and whose parent has ended.
func TestRegressionGoPlugin136DescendantsOutsideTheGroupAreKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere those that leave the group are out of reach")
	}
	for name, end := range map[string]func(*testing.T, *Handler){
		"kill": func(t *testing.T, h *Handler) { _ = h.Kill() },
		"stop": func(t *testing.T, h *Handler) { _ = h.Stop(t.Context()) },
		"crash": func(t *testing.T, h *Handler) {
			poll(t, h, "exit")
			await(t, h.Done(), "the end of the handler")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, log := spec(t, "deserter")
			h := start(t, s)
			eventually(t, "the grandchild's number is logged", func() bool { return strings.Contains(log.String(), "grandchild") })
			grandchild := loggedPID(t, log.String())
			t.Cleanup(func() { _ = syscall.Kill(grandchild, syscall.SIGKILL) })
			if group, err := syscall.Getpgid(grandchild); err != nil || group == h.PID() {
				t.Fatalf("the grandchild is in group %d, %v; want another than %d", group, err, h.PID())
			}
			end(t, h)
			if alive(grandchild) {
				t.Error("the grandchild is left")
			}
		})
	}
}

// children returns the processes that carry the mark of any handler.
func marked(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if strings.Contains(string(env), markEnv+"="+os.TempDir()+"/fh") && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hashicorp/go-plugin#291: the host leaked goroutines and files with each crash.
// risa-labs-inc/BossConsole#131: 434 orphans after 19 days.
func TestRegressionGoPlugin291BossConsole131ACrashLoopLeaksNothing(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("long; counts in /proc")
	}
	s, _, _ := spec(t, "deserter") // each leaves a grandchild outside of its group
	crash := func() {
		h, err := Start(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		poll(t, h, "exit")
		await(t, h.Done(), "the end of the handler")
	}
	for range 5 { // what is made once for all
		crash()
	}
	count := func() (files, goroutines, threads int) {
		fds, _ := os.ReadDir("/proc/self/fd")
		tasks, _ := os.ReadDir("/proc/self/task")
		return len(fds), runtime.NumGoroutine(), len(tasks)
	}
	files, goroutines, threads := count()
	for range 200 {
		crash()
	}
	eventually(t, "nothing is left of 200 crashes", func() bool {
		f, g, th := count()
		ok := f <= files+2 && g <= goroutines+2 && th <= threads+10
		if !ok {
			t.Logf("files %d, before %d; goroutines %d, before %d; threads %d, before %d", f, files, g, goroutines, th, threads)
		}
		return ok
	})
	if left := marked(t); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	checkNothingLeft(t, s.RuntimeDir, 0)
}
