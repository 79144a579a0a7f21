package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// version and commit are set by the linker; a build without the Makefile asks the
// module.
var version, commit string

func newVersionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			return c.print(v, func(p *page) {
				from := ""
				if v.Commit != "" {
					from = "commit " + v.Commit + ", "
				}
				p.say(plain, "fairlead %s (%s%s, %s)", v.Version, from, v.Go, v.Platform)
			})
		},
	}
}

func buildVersion() api.Version {
	v := api.Version{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && v.Version == "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	if v.Version == "" {
		v.Version = "devel"
	}
	if !ok || v.Commit != "" {
		return v
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified && v.Commit != "" {
		v.Commit += "-dirty"
	}
	return v
}
