package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/knadh/koanf/parsers/json"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
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
}

func newValidateCommand(c *cli) *cobra.Command {
	var dirs []string
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check node and deployment files without a node",
		Long: `Check node and deployment files ("-": standard input), told apart by their keys.
Everything that is wrong is printed at once as file:line:column, and the exit
status is then 2. Endpoints are checked by the adapters themselves, which are
started for that; without adapters a warning says what was not checked.

References such as ${env:NAME} and ${file:/path} are not looked up.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := &validator{c: c, cmd: cmd, dirs: c.adapterDirs(dirs)}
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
	return cmd
}

// validator checks files against the adapters of dirs, which it asks at most once.
type validator struct {
	c     *cli
	cmd   *cobra.Command
	dirs  []string
	facts *config.Facts
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
		}
	}
	if err != nil && !errors.As(err, &found.Findings) {
		return verdict{}, err
	}
	if found.Findings == nil {
		found.Findings = config.Findings{}
	}
	found.OK = !found.Findings.Failed()
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
	v.facts = &config.Facts{Adapters: map[string]config.AdapterFacts{}}
	for _, b := range found {
		if b.Err != nil {
			v.c.warnf("warning: %v", b.Err)
			continue
		}
		v.facts.Adapters[b.Name] = factsOf(b)
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
	}
}

func countWrong(verdicts []verdict) int {
	n := 0
	for _, v := range verdicts {
		n += countErrors(v.Findings)
	}
	return n
}
