package crash

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// nodeEnv names the node file that this binary is to run instead of the tests.
const nodeEnv = "FAIRLEAD_CRASH_NODE"

// atOnce is how many nodes run side by side. They wait for leases, polls and brokers
// most of the time, so it is more than there are cores.
const atOnce = 4

func TestMain(m *testing.M) {
	if file := os.Getenv(nodeEnv); file != "" {
		if err := runNode(file); err != nil {
			fmt.Fprintln(os.Stderr, "node under test:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
