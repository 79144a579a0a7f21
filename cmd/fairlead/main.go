// Command fairlead is the one binary: the daemon (run), the demo, and the client
// commands that talk to any node.
//
// Exit status: 0 done, 1 failed, 2 wrong usage or input, 3 no node reachable or no
// quorum, 4 no such thing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // windows of failback, also where the machine has no time zones
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the command in good order. From then on signals have
	// their default effect again, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	env := osEnvironment()
	code := report(env.err, run(ctx, os.Args[1:], env))
	stop()
	os.Exit(code)
}

// run executes one command line. What it returns decides the exit status.
func run(ctx context.Context, args []string, env environment) error {
	c := &cli{env: env}
	root := newRootCommand(c)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !c.began {
		// Found before any command's code ran: flags, arguments, names.
		return &usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
	}
	return err
}
