package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/json"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
)

// Kinds of files, as they are printed.
const (
	nodeFile       = "node"
	deploymentFile = "deployment"
)

// verdict is what validate found about one file.
type verdict struct {
	File     string          `json:"file"`
	Kind     string          `json:"kind"`
	OK       bool            `json:"ok"`
	Findings config.Findings `json:"findings"`
	// Live is what the endpoints said, if they were asked.
	Live []examined `json:"live,omitempty"`
}

func newValidateCommand(c *cli) *cobra.Command {
	var dirs []string
	var live liveOptions
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check node and deployment files without a node",
		Long: `Check node and deployment files ("-": standard input), told apart by their keys.
Everything that is wrong is printed at once as file:line:column, and the exit
status is then 2. Endpoints are checked by the adapters themselves, which are
started for that; without adapters a warning says what was not checked.

References such as ${env:NAME} and ${file:/path} are not looked up, unless --live is
given: then each receive location and send port of a deployment without errors is
opened from here. It connects, logs in, lists, and says what would be taken now and
which filter rejects the rest. Nothing is changed at the partner's, unless
--write-test allows it, and no node is needed; run it where the host would run. Node files are checked as ever.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := live.check(cmd); err != nil {
				return err
			}
			v := &validator{c: c, cmd: cmd, dirs: c.adapterDirs(dirs), live: live}
			verdicts := make([]verdict, 0, len(args))
			for _, path := range args {
				found, err := v.validate(path)
				if err != nil {
					return err
				}
				verdicts = append(verdicts, found)
			}
			if err := c.print(verdicts, func(p *page) { renderVerdicts(p, verdicts) }); err != nil {
				return err
			}
			if wrong := countWrong(verdicts); wrong > 0 {
				return &findingsError{wrong}
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&dirs, "adapters", nil, "directories with the adapters (default: adapters, or ../lib/fairlead/adapters, next to this binary)")
	cmd.Flags().BoolVar(&live.on, "live", false, "connect to the endpoints and say what is there")
	cmd.Flags().StringSliceVar(&live.only, "only", nil, "with --live, names of the locations and ports to look at (default: all)")
	cmd.Flags().IntVar(&live.items, "items", 10, "with --live, how many names are shown of those that would be taken, and for each reason of those that would not")
	cmd.Flags().DurationVar(&live.timeout, "endpoint-timeout", 30*time.Second, "with --live, how long one endpoint may take")
	cmd.Flags().BoolVar(&live.write, "write-test", false, "with --live, write a small temporary file at each send port and take it away again")
	return cmd
}

// validator checks files against the adapters of dirs, which it asks at most once.
type validator struct {
	c     *cli
	cmd   *cobra.Command
	dirs  []string
	facts *config.Facts
	live  liveOptions
	// binaries are the adapters by their names, once they were asked.
	binaries map[string]handler.Binary
}

func (v *validator) validate(path string) (verdict, error) {
	name, data, err := v.c.readInput(path, api.MaxDeployment)
	if err != nil {
		return verdict{}, err
	}
	found := verdict{File: name, Kind: kindOf(name, data)}
	if found.Kind == nodeFile {
		var n *config.Node
		if n, err = config.ParseNode(name, data, config.Offline()); err == nil {
			found.Findings = n.Warnings
		}
	} else {
		facts, factsErr := v.adapterFacts()
		if factsErr != nil {
			return verdict{}, factsErr
		}
		var d *config.Deployment
		if d, err = config.ParseDeployment(name, data, facts); err == nil {
			found.Findings = d.Warnings
			if v.live.on {
				found.Live = v.examine(d)
			}
		}
	}
	if err != nil && !errors.As(err, &found.Findings) {
		return verdict{}, err
	}
	if found.Findings == nil {
		found.Findings = config.Findings{}
	}
	found.OK = !found.Findings.Failed() && !slices.ContainsFunc(found.Live, examined.failed)
	return found, nil
}

// adapterFacts asks the adapters what they are; without a directory nothing is
// known of them.
func (v *validator) adapterFacts() (config.Facts, error) {
	if v.facts != nil || len(v.dirs) == 0 {
		if v.facts == nil {
			v.facts = &config.Facts{}
		}
		return *v.facts, nil
	}
	found, err := v.c.scan(v.cmd, v.dirs)
	if err != nil {
		return config.Facts{}, fmt.Errorf("ask the adapters in %s: %w", strings.Join(v.dirs, ", "), err)
	}
	v.facts, v.binaries = &config.Facts{Adapters: map[string]config.AdapterFacts{}}, map[string]handler.Binary{}
	for _, b := range found {
		if b.Err != nil {
			v.c.warnf("warning: %v", b.Err)
			continue
		}
		v.facts.Adapters[b.Name] = factsOf(b)
		v.binaries[b.Name] = b
	}
	return *v.facts, nil
}

var (
	nodeKeys       = []string{"node", "listen", "cluster", "tls", "log", "deploy"}
	deploymentKeys = []string{"hosts", "receive_locations", "send_ports", "routes"}
	// firstWords finds what look like keys of the first level in a file that
	// cannot be parsed: of YAML and TOML at the beginning of lines, of JSON the
	// first.
	firstWords = regexp.MustCompile(`(?m)^\[?([a-z_]+)|\A\s*\{\s*"?([a-z_]+)`)
)

// kindOf tells by the keys of the first level what a file is meant to be. What is
// neither is checked as a deployment: its findings then say what is wrong.
func kindOf(name string, data []byte) string {
	seen := map[string]bool{}
	for _, key := range firstKeys(name, data) {
		seen[key] = true
	}
	count := func(keys []string) (n int) {
		for _, key := range keys {
			if seen[key] {
				n++
			}
		}
		return n
	}
	if count(nodeKeys) > count(deploymentKeys) {
		return nodeFile
	}
	return deploymentFile
}

func firstKeys(name string, data []byte) []string {
	var top map[string]any
	var err error
	switch strings.ToLower(filepath.Ext(name)) {
	case ".toml":
		top, err = toml.Parser().Unmarshal(data)
	case ".json":
		top, err = json.Parser().Unmarshal(data)
	default:
		top, err = yaml.Parser().Unmarshal(data)
	}
	var keys []string
	for key := range top {
		keys = append(keys, key)
	}
	if err != nil {
		for _, m := range firstWords.FindAllSubmatch(data, -1) {
			keys = append(keys, string(m[1])+string(m[2]))
		}
	}
	return keys
}

func renderVerdicts(p *page, verdicts []verdict) {
	for _, v := range verdicts {
		for _, f := range v.Findings {
			s := warn
			if f.Severity == config.Error {
				s = bad
			}
			p.say(s, "%s", f)
		}
		if v.OK {
			p.say(good, "%s: ok (%s)", v.File, v.Kind)
		}
		renderLive(p, v.Live)
	}
}

func countWrong(verdicts []verdict) int {
	n := 0
	for _, v := range verdicts {
		n += countErrors(v.Findings)
		for _, e := range v.Live {
			if e.failed() {
				n++
			}
		}
	}
	return n
}
